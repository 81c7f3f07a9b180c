"""The approaches, each one file and one value (types.Approach), in one table."""

from ml_collections import ConfigDict

from hatjax.approaches import hat, sgd
from hatjax.errors import unknown
from hatjax.types import Approach, Network

APPROACHES = {"hat": hat.make, "sgd": sgd.make}


def make(config: ConfigDict, network: Network) -> Approach:
    """The approach config.approach.name on `network`; InputError for an unknown name."""
    name = config.approach.name
    if name not in APPROACHES:
        raise unknown("approach", name, APPROACHES)
    return APPROACHES[name](config, network)
