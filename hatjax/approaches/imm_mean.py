"""Incremental Moment Matching, mean-IMM (Lee et al., NIPS 2017).

Each task starts from the weights that the last one left, and is pulled towards them while it learns
(the authors' L2-transfer). After it, the weights are replaced by the mean of those found for all
the tasks so far, and the next task starts there, as in HAT's published code; in the authors' own
it starts from the weights before they were merged, and merges them all once, at the end.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.approaches.ewc import pull
from hatjax.config import ApproachSpec, ranges
from hatjax.fidelity import Departures, departures
from hatjax.networks import rows
from hatjax.types import Approach, Network, Tree


class Settings(NamedTuple):
    lamb: float = 1e-4  # weight of the pull to the last task's parameters
    clip: float = 10000.0  # largest global norm of a gradient


def shared(params: Tree, chosen: Departures) -> Tree:
    """What is pulled and merged: the trunk; in the published code the heads too."""
    return {k: params[k] for k in (("trunk",) if chosen.unmerged_heads else ("trunk", "head"))}


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + lambda/2 |p - p*|^2; there is no pull in the first task.

    memory: "old", the weights p* that the last task left, already merged.
    """
    base, chosen = sgd.make(config, network), departures(config)

    def init(key):
        params, _ = base.init(key)
        return params, {"old": jax.tree.map(jnp.zeros_like, shared(params, chosen))}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        mine, old = shared(params, chosen), rows.take(memory["old"], step.task)
        distance = pull(mine, old, jax.tree.map(lambda _: 1.0, mine))
        return entropy + (step.seen > 0) * step.hyper.approach.lamb * distance, out

    def end_task(params, memory, data, step):
        t, mine = step.seen, shared(params, chosen)
        mean = jax.tree.map(lambda p, q: (p + t * q) / (t + 1), mine, memory["old"])
        return params | mean, {"old": mean}

    return base._replace(init=init, loss=loss, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="IMM-mean",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 100)},
)
