"""Winning SubNetworks (Kang et al., "Forget-free continual learning with winning subnetworks",
ICML 2022).

Each task chooses, by a learned score of every weight, the part of the network that it uses. It may
use what earlier tasks use, but moves only weights that none of them does, so that nothing is
forgotten.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.training import subnetworks
from hatjax.types import Approach, Network, Step, Tree


class Settings(NamedTuple):
    c: float = 0.5  # share of each parameter's weights that a task uses; good: 0.03..0.7
    clip: float = 10000.0  # largest global norm of a gradient


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """0 for weights in the mask of an earlier task, which may not move, 1 for all others."""
    trunk = jax.tree.map(lambda held: 1 - held.astype(jnp.float32), memory["held"])
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on weights w and scores s, with the weights w m^t, m^t = 1 for the top c of |s| (eq. 3).

    The steps are w - lr (1 - M^{t-1}) dL/dw and s - lr dL/ds (eqs. 4 and 5), M^t = max(M^{t-1},
    m^t) after a task; the gradient of m^t in |s| is taken as 1. Scores are drawn once and go on
    from task to task. Every parameter of the trunk has its own mask, biases and positional
    embeddings, too, as in the authors' code where a layer has a bias.

    memory: that of subnetworks.make, and "held", M^{t-1}, uint8, a tree like the trunk: 1 for the
    weights in any mask so far.
    """
    base = subnetworks.make(sgd.make(config, network, free), network)

    def init(key):
        params, memory = base.init(key)
        held = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.uint8), params["trunk"])
        return params, memory | {"held": held}

    def end_task(params, memory, data, step):
        params, memory = base.end_task(params, memory, data, step)
        masks = subnetworks.masks_of(params, memory, step.task, step.hyper.approach.c)
        return params, memory | {"held": jax.tree.map(either, memory["held"], masks)}

    def report(params, memory, step):
        masks = subnetworks.masks_of(params, memory, step.task, step.hyper.approach.c)
        after = jax.tree.map(either, memory["held"], masks)
        return base.report(params, memory, step) | {"used": subnetworks.share_of(after)}

    return base._replace(init=init, end_task=end_task, report=report)


def either(held, mask):
    """M^t: 1 where the weight was held, or is in the mask, uint8."""
    return jnp.maximum(held, mask.astype(jnp.uint8))


APPROACH = ApproachSpec(
    make,
    label="WSN",
    settings=Settings(),
    ranges={"c": ranges.SHARE_OF_WEIGHTS, "clip": ranges.POSITIVE},
    usual={"c": (0.01, 0.9)},
)
