"""Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017).

Each weight is pulled back to where the last task left it, the more strongly the more the earlier
tasks' loss depends on it: the strength is the weight's Fisher information.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.fidelity import departures
from hatjax.training import fisher
from hatjax.types import Approach, Array, Network, Tree

# How many times as strongly the Fisher information of single examples pulls as the published one
# (fisher.per_batch), measured on trained networks along the way that SGD takes in the next task:
# docs/departures.md.
STRONGER = 4


class Settings(NamedTuple):
    lamb: float = 5000.0  # weight of the pull, in the published code's unit (see `make`)
    clip: float = 100.0  # largest global norm of a gradient


def pull(params: Tree, old: Tree, weight: Tree) -> Array:
    """1/2 sum_i F_i (p_i - p*_i)^2 (EWC, eq. 3)."""
    terms = jax.tree.map(lambda p, q, f: jnp.sum(f * jnp.square(p - q)), params, old, weight)
    return sum(jax.tree.leaves(terms)) / 2


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + lambda/2 sum_i F_i (p_i - p*_i)^2 over the weights i of the trunk.

    memory: "old", the trunk p* that the last task left, and "fisher", F of the trunk, the mean over
    the tasks so far; zeros before the first task. Heads are not pulled: only their own task trains
    them.

    The default lambda = 5000 is that of the published code. Where the Fisher information is that of
    single examples, lambda is divided by STRONGER, so that the pull is about as strong.
    """
    base = sgd.make(config, network)
    per_example = departures(config).fisher_per_example
    scale = 1 / STRONGER if per_example else 1

    def init(key):
        params, _ = base.init(key)
        zeros = jax.tree.map(jnp.zeros_like, params["trunk"])
        return params, {"old": zeros, "fisher": zeros}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        held = pull(params["trunk"], memory["old"], memory["fisher"])
        return entropy + scale * step.hyper.approach.lamb * held, out

    def end_task(params, memory, data, step):
        def entropy(trunk, batch, key):
            own = params | {"trunk": trunk}
            return base.loss(own, memory, batch, step._replace(key=key))[0]

        if per_example:
            new = fisher.per_example(network, params, data, step.task)
        else:
            new = fisher.per_batch(entropy, params["trunk"], data, step.key)
        t = step.seen
        mean = jax.tree.map(lambda f, g: (f + t * g) / (t + 1), new, memory["fisher"])
        return params, {"old": params["trunk"], "fisher": mean}

    return base._replace(init=init, loss=loss, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="EWC",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 1e6)},
)
