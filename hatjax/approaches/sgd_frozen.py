"""SGD-F: the trunk learns the first task only, then it is frozen and only heads are trained."""

import jax
import optax
from ml_collections import ConfigDict

from hatjax import transforms
from hatjax.approaches import sgd
from hatjax.types import Approach, Network, Tree


def freeze() -> transforms.Transform:
    """g' = 0 for the trunk after the first task."""

    def update(updates: Tree, params, memory, step) -> Tree:
        trunk = jax.tree.map(lambda g: g * (step.seen == 0), updates["trunk"])
        return updates | {"trunk": trunk}

    return transforms.stateless(update)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD, with the trunk as the first task left it."""
    return sgd.make(config, network)._replace(
        transform=optax.chain(transforms.clip(freeze()), transforms.descend())
    )
