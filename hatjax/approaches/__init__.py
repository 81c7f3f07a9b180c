"""The approaches: each file of this folder is one, under its own name.

It ends with what hatjax.config.registry reads, APPROACH = ApproachSpec(...), and is used by that
name as soon as it lies here. hatjax.training has what several of them share.
"""

from ml_collections import ConfigDict

from hatjax.config import APPROACHES
from hatjax.errors import unknown
from hatjax.types import Approach, Network

__all__ = ["APPROACHES", "make"]


def make(config: ConfigDict, network: Network) -> Approach:
    """The approach config.approach.name on `network`; InputError for an unknown name."""
    name = config.approach.name
    if name not in APPROACHES:
        raise unknown("approach", name, APPROACHES)
    return APPROACHES[name].make(config, network)
