"""The approaches, each one file and one value (types.Approach), in one table."""

from ml_collections import ConfigDict

from hatjax.approaches import (
    ewc,
    hat,
    imm_mean,
    imm_mode,
    joint,
    lfl,
    lwf,
    pathnet,
    progressive,
    random,
    sgd,
    sgd_frozen,
    sgd_restart,
)
from hatjax.errors import unknown
from hatjax.types import Approach, Network

APPROACHES = {
    "random": random.make,
    "sgd": sgd.make,
    "sgd_restart": sgd_restart.make,
    "sgd_frozen": sgd_frozen.make,
    "joint": joint.make,
    "lwf": lwf.make,
    "lfl": lfl.make,
    "ewc": ewc.make,
    "imm_mean": imm_mean.make,
    "imm_mode": imm_mode.make,
    "progressive": progressive.make,
    "pathnet": pathnet.make,
    "hat": hat.make,
}


def make(config: ConfigDict, network: Network) -> Approach:
    """The approach config.approach.name on `network`; InputError for an unknown name."""
    name = config.approach.name
    if name not in APPROACHES:
        raise unknown("approach", name, APPROACHES)
    return APPROACHES[name](config, network)
