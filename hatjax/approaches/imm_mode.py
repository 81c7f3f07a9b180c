"""Incremental Moment Matching, mode-IMM (Lee et al., NIPS 2017).

As mean-IMM, but each merged weight is a weighted mean of what the tasks found, weighted with its
Fisher information in each of them: the mode of the product of Gaussian posteriors.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import imm_mean
from hatjax.config import ApproachSpec, ranges
from hatjax.fidelity import departures
from hatjax.training import fisher
from hatjax.types import Approach, Network, Tree


class Settings(NamedTuple):
    lamb: float = 0.01  # as in the published code, whose comment says 1
    clip: float = 1000.0  # largest global norm of a gradient


def merge(new: Tree, f_new: Tree, old: Tree, f_old: Tree) -> Tree:
    """(F_t p + F p*) / (F_t + F), weight by weight; p where F_t + F = 0.

    `new` p and `f_new` F_t are of the task just learned; `old` p* are the weights merged before,
    and `f_old` F is the sum of the Fisher informations of the tasks before.
    """

    def mode(p, f, q, g):
        total = f + g
        return jnp.where(total > 0, (f * p + g * q) / jnp.where(total > 0, total, 1), p)

    return jax.tree.map(mode, new, f_new, old, f_old)


def make(config: ConfigDict, network: Network) -> Approach:
    """Mean-IMM's loss, with another merge of the trunk at the end of a task.

    memory: "old", the weights p* that the last task left, and "fisher", F of the trunk, the sum
    over the tasks so far. The published code never uses its merged weights, and the loss in its
    Fisher information includes the pull (hatjax.fidelity).
    """
    base, chosen = imm_mean.make(config, network), departures(config)

    def init(key):
        params, memory = base.init(key)
        return params, memory | {"fisher": jax.tree.map(jnp.zeros_like, params["trunk"])}

    def end_task(params, memory, data, step):
        trunk = params["trunk"]

        def pulled(trunk, batch, key):
            own = params | {"trunk": trunk}
            return base.loss(own, memory, batch, step._replace(key=key))[0]

        if chosen.fisher_per_example:
            f = fisher.per_example(network, params, data, step.task)
        else:
            f = fisher.per_batch(pulled, trunk, data, step.key)
        if chosen.kept_mode_merge:
            merged = merge(trunk, f, memory["old"]["trunk"], memory["fisher"])
            params = params | {"trunk": merged}
        total = jax.tree.map(jnp.add, f, memory["fisher"])
        return params, {"old": imm_mean.shared(params, chosen), "fisher": total}

    return base._replace(init=init, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="IMM-mode",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 100)},
)
