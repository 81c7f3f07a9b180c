"""The learning-rate schedule of the paper: divide the rate when the validation loss stops falling.

The rate is divided by `factor` after `patience` epochs in a row without a smaller validation loss;
training ends once it falls below `least`, and the parameters of the smallest loss are restored.
optax.contrib.reduce_on_plateau neither ends nor restores.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.types import Array, Schedule, Tree


class Plateau(NamedTuple):
    """Where the schedule stands, and the best parameters so far."""

    lr: Array  # float32[]
    best: Array  # float32[], the smallest validation loss
    patience: Array  # int32[], epochs left without a better loss before lr falls
    params: Tree  # those of the best loss
    done: Array  # bool[]


def make(config: ConfigDict) -> Schedule:
    """The schedule of config.lr, lr_factor, lr_patience and lr_min."""

    def begin(params, memory, step):
        return start(step.hyper.lr, config.lr_patience, params), memory

    def after_epoch(state, loss, params, memory, step):
        factor, least = step.hyper.lr_factor, step.hyper.lr_min
        return update(state, loss, params, factor, config.lr_patience, least), params, memory

    def best(state, params, memory, step):
        return state.params, memory

    def mark_failed(state):
        return state._replace(patience=jnp.ones_like(state.patience))

    return Schedule(begin, after_epoch, best, mark_failed)


def start(lr: Array, patience: int, params: Tree) -> Plateau:
    """The schedule before the first epoch, whose best parameters so far are `params`."""
    return Plateau(
        lr=jnp.asarray(lr, float),
        best=jnp.asarray(jnp.inf, float),
        patience=jnp.int32(patience),
        params=params,
        done=jnp.bool(False),
    )


def update(
    state: Plateau, loss: Array, params: Tree, factor: float, patience: int, least: float
) -> Plateau:
    """The schedule after an epoch that ended with `params` and validation loss `loss`.

    Better means strictly smaller, which NaN never is. Once done, nothing changes any more.
    """
    better = (loss < state.best) & ~state.done
    left = jnp.where(better, patience, state.patience - 1)
    lr = jnp.where(left <= 0, state.lr / factor, state.lr)
    return Plateau(
        lr=jnp.where(state.done, state.lr, lr),
        best=jnp.where(better, loss, state.best),
        patience=jnp.where(left <= 0, patience, left).astype(jnp.int32),
        params=jax.tree.map(lambda new, old: jnp.where(better, new, old), params, state.params),
        done=state.done | (lr < least),
    )
