"""SGD-F: the trunk learns the first task only, then it is frozen and only heads are trained."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.types import Approach, Network, Step, Tree


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """After the first task, nothing of the trunk."""
    first = jnp.asarray(step.seen == 0, float)
    trunk = jax.tree.map(lambda p: first, own["trunk"])
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD, with the trunk as the first task left it. Norms and heads are each task's own."""
    return sgd.make(config, network, free)


APPROACH = ApproachSpec(make, label="SGD-F", settings=sgd.Settings(), ranges=sgd.RANGES)
