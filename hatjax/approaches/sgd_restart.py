"""SGD from fresh parameters on every task: nothing is carried over, and nothing is kept."""

from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.types import Approach, Network


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD, with all parameters drawn anew before each task. No memory."""
    return sgd.make(config, network)._replace(
        begin_task=lambda params, memory, step: (network.init(step.key), memory)
    )


APPROACH = ApproachSpec(make, label="SGD-R", settings=sgd.Settings(), ranges=sgd.RANGES)
