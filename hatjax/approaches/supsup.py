"""Supermasks in Superposition (Wortsman et al., NeurIPS 2020).

The weights are random and never trained. What a task learns is which of them it uses, so nothing
can be forgotten; the task of given examples can be inferred from the masks (`hatjax.infer_task`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.training import subnetworks
from hatjax.types import Approach, Array, Network, Step, Tree


class Settings(NamedTuple):
    c: float = 0.5  # share of each layer's weights that a task uses
    clip: float = 10000.0  # largest global norm of a gradient


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """0 for the weights of the trunk, which never move, 1 for what may move."""
    trunk = jax.tree.map(lambda w: 0.0, own["trunk"])
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def fixed(key: Array, w: Array, kind: str) -> Array:
    """The weights in place of w "... inputs units", with sigma = sqrt(2 / d) for d inputs.

    "signed_constant": sigma or -sigma, each with probability 1/2 (the authors' choice);
    "kaiming_normal": N(0, sigma^2). Biases are 0: the authors' networks have none.
    """
    if w.ndim < 2:
        return jnp.zeros_like(w)
    sigma = math.sqrt(2 / subnetworks.fan_in(w))
    if kind == "signed_constant":
        return sigma * jax.random.rademacher(key, w.shape, w.dtype)
    return sigma * jax.random.normal(key, w.shape, w.dtype)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the scores s of the random weights w: the network's are w m^t, m^t = 1 for the top c
    of |s| in each parameter (section 3.1). Scores are drawn anew for every task.

    Memory: that of subnetworks.make, a bit for every weight and task. The scale and bias of norms
    are a task's own and trained, as everywhere in hatjax; the authors' norms have none.
    """
    base = subnetworks.make(sgd.make(config, network, free), network)

    def init(key):
        params, memory = base.init(key)
        leaves, tree = jax.tree.flatten(params["trunk"])
        keys = jax.random.split(jax.random.fold_in(key, 2), len(leaves))
        weights = [
            fixed(k, w, config.approach.weights) for k, w in zip(keys, leaves, strict=True)
        ]
        return params | {"trunk": jax.tree.unflatten(tree, weights)}, memory

    def begin_task(params, memory, step):
        return params | {"scores": subnetworks.draw(step.key, params["trunk"])}, memory

    return base._replace(init=init, begin_task=begin_task)


APPROACH = ApproachSpec(
    make,
    label="SupSup",
    settings=Settings(),
    ranges={
        "c": ranges.SHARE_OF_WEIGHTS,
        "clip": ranges.POSITIVE,
        "weights": ranges.one_of("signed_constant", "kaiming_normal"),
    },
    usual={"c": (0.01, 0.9)},
    fixed=dict(weights="signed_constant"),
)
