"""Plain training, task after task: the baseline that forgets, and the base of the other approaches.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax import protection
from hatjax.config import ApproachSpec, ranges
from hatjax.networks import rows
from hatjax.training import optimizers, schedules
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Network, Step, Tree


class Settings(NamedTuple):
    clip: float = 10000.0  # largest global norm of a gradient (published code)


RANGES = {"clip": ranges.POSITIVE}


def everything(own: Tree, memory: Tree, step: Step) -> Tree:
    """How far the parameters may move: 1, all of them freely."""
    return jax.tree.map(lambda p: 1.0, own)


def some_heads(which: Callable[[Tree, Step], Array]) -> Callable[[Tree, Tree, Step], Tree]:
    """As `everything`, but of the heads only those may move for which which(memory, step) "T" is 1.

    Moments and weight decay would change the others, too.
    """

    def free(own: Tree, memory: Tree, step: Step) -> Tree:
        moving = which(memory, step)
        heads = jax.tree.map(lambda p: jnp.expand_dims(moving, range(1, p.ndim)), own["head"])
        return everything(own, memory, step) | {"head": heads}

    return free


def make(
    config: ConfigDict, network: Network, free: Callable[[Tree, Tree, Step], Tree] = everything
) -> Approach:
    """Training on the cross-entropy of the task's own head, with clipped gradients; no memory.

    The optimizer is that of config.optimizer. `free(own, memory, step)` gives a tree like the
    parameters of numbers 0..1 that broadcast to them: how far each may move (protection.protect).
    """
    rate = optimizers.make(config)

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, step.task, key=step.key, weight=batch.weight)
        return cross_entropy(out.logits, batch), out

    def optimizer(memory, step):
        # With NaN the runner takes back an epoch whose gradient's norm overflows.
        protected = protection.protect(rate(step.lr), step.hyper.approach.clip, jnp.nan)

        def update(grads, state, own):
            share = free(own, memory, step)
            return protected.update(grads, state, own, free=lambda after: share)

        return optax.GradientTransformation(protected.init, update)

    return Approach(
        init=lambda key: (network.init(key), {}),
        begin_task=lambda params, memory, step: (params, memory),
        take=lambda params, memory, step: rows.take(params, step.task),
        put=lambda params, own, memory, step: rows.put(params, own, step.task),
        loss=loss,
        optimizer=optimizer,
        schedule=schedules.make(config),
        end_task=lambda params, memory, data, step: (params, memory),
        predict=lambda params, memory, x, task, hyper: network.apply(params, x, task).logits,
    )


APPROACH = ApproachSpec(make, label="SGD", settings=Settings(), ranges=RANGES)
