"""SGD-F: the trunk learns the first task only; later tasks train their own heads and norms."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.types import Approach, Network, Step, Tree


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """How far the parameters may move: after the first task the trunk not at all."""
    first = jnp.asarray(step.seen == 0, float)
    trunk = jax.tree.map(lambda p: first, own["trunk"])
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD; after the first task only the norms and the head of a task are trained. No memory."""
    return sgd.make(config, network, free)


APPROACH = ApproachSpec(make, label="SGD-F", settings=sgd.Settings(), ranges=sgd.RANGES)
