"""The multi-layer perceptron of the paper's MNIST experiments."""

from ml_collections import ConfigDict

from hatjax.config import NetworkSpec, ranges
from hatjax.networks.stages import Stage, rates
from hatjax.networks.trunk import Trunk


def make(config: ConfigDict, image: tuple[int, ...]) -> Trunk:
    """Dense layers fc1, fc2, ..., one for each of config.widths; any image, flattened.

    InputError for another number of dropout rates than layers.
    """
    names = (f"fc{i + 1}" for i in range(len(config.widths)))
    stages = tuple(map(Stage, names, config.widths, rates(config)))
    return Trunk(stages, config.get("dropout_in", 0.0))


NETWORK = NetworkSpec(
    make,
    fields=dict(
        widths=(2000, 2000),
        dropout_in=0.2,  # of the images
        dropout=0.5,  # of each layer, or one for all
    ),
    ranges={
        "widths": ranges.WIDTHS,
        "dropout_in": ranges.SHARE,
        "dropout": ranges.RATES,
    },
    optional=("dropout_in",),
)
