"""The multi-layer perceptron of the paper's MNIST experiments."""

from ml_collections import ConfigDict

from hatjax.networks.stages import Stage
from hatjax.networks.trunk import Trunk


def make(config: ConfigDict, image: tuple[int, ...]) -> Trunk:
    """Dense layers fc1, fc2, ... HAT's are 2 of 2000; it drops .2 of the input."""
    stages = (Stage(f"fc{i + 1}", n, config.dropout) for i, n in enumerate(config.widths))
    return Trunk(tuple(stages), config.dropout_in)
