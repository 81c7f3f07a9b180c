"""Memory Aware Synapses (Aljundi, Babiloni, Elhoseiny, Rohrbach and Tuytelaars, ECCV 2018).

Each weight is pulled back to where the last task left it, the more strongly the more the outputs of
the earlier tasks depend on it. No label is needed for that.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd, si
from hatjax.config import ApproachSpec, ranges
from hatjax.training import fisher
from hatjax.types import Approach, Array, Batch, Network, Out


class Settings(NamedTuple):
    # Strength of the pull. The paper's is 1: on the digits, at the learning rate 0.05, that ends at
    # 93.6 % on average, and 0.03 at 95.9.
    lamb: float = 0.03
    clip: float = 10000.0  # largest global norm of a gradient


def squared_norm(out: Out, batch: Batch) -> Array:
    """sum_k |F(x_k)|^2 over the real examples, F the logits of the task's classes."""
    finite = jnp.isfinite(out.logits)
    squares = jnp.square(jnp.where(finite, out.logits, 0))
    return jnp.sum(jnp.sum(squares, axis=-1) * batch.weight)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + lambda sum_i Omega_i (p_i - p*_i)^2 over the weights i of the trunk
    (eq. 4), with lambda Omega_i bounded by si.strength.

    Omega_i = sum over the earlier tasks of 1/N sum_k |d |F(x_k)|^2 / d p_i| (eqs. 2 and 3), over a
    task's training images k, at the parameters with which it ends, without dropout. It takes about
    an epoch with network.magnitudes.

    memory, each like the trunk: "old", p*, which the last task left, and "importance", Omega; zeros
    before the first task. Heads and norms are not pulled: they are a task's own.
    """
    base = sgd.make(config, network)

    def init(key):
        params, _ = base.init(key)
        zeros = jax.tree.map(jnp.zeros_like, params["trunk"])
        return params, {"old": zeros, "importance": zeros}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        held = si.pull(
            params["trunk"], memory["old"], memory["importance"], step.hyper.approach.lamb, step.lr
        )
        return entropy + held, out

    def end_task(params, memory, data, step):
        new = fisher.mean_size(
            network, network.magnitudes, jnp.abs, squared_norm, params, data, step.task
        )
        importance = jax.tree.map(jnp.add, memory["importance"], new)
        return params, {"old": params["trunk"], "importance": importance}

    return base._replace(init=init, loss=loss, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="MAS",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 100)},
)
