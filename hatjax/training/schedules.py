"""Learning-rate schedules of a task: plateau (the paper's), cosine, constant."""

from typing import NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.training import plateau
from hatjax.types import Array, Schedule


class Planned(NamedTuple):
    """Where a schedule stands that does not look at the validation loss."""

    lr: Array  # float32[], the rate of the next epoch
    top: Array  # float32[], what the task began with, divided by lr_factor after a failed epoch
    epoch: Array  # int32[], epochs learned
    failing: Array  # bool[], whether the epoch that ends has failed
    done: Array  # bool[]


def make(config: ConfigDict) -> Schedule:
    """The schedule of config.schedule: "plateau", "cosine" or "constant" (config.check)."""
    return plateau.make(config) if config.schedule == "plateau" else planned(config)


def planned(config: ConfigDict) -> Schedule:
    """A rate that depends on the epoch alone; a task ends with its last parameters.

    "constant" is config.lr. "cosine" falls from it to 0 over config.epochs, lr [1 + cos(pi e/E)]/2
    in epoch e = 0..E-1. Where an epoch fails under on_nan="lower", both go on with the rate divided
    by lr_factor, until it is below lr_min.
    """

    def rate(top: Array, epoch: Array) -> Array:
        if config.schedule == "constant":
            return top
        return top * (1 + jnp.cos(jnp.pi * epoch / config.epochs)) / 2

    def start(params, memory, step):
        lr = jnp.asarray(step.hyper.lr, float)
        return Planned(lr, lr, jnp.int32(0), jnp.bool(False), jnp.bool(False)), memory

    def update(state, loss, params, memory, step):
        top = jnp.where(state.failing, state.top / step.hyper.lr_factor, state.top)
        epoch = state.epoch + 1
        done = state.done | (top < step.hyper.lr_min)
        return Planned(rate(top, epoch), top, epoch, jnp.bool(False), done), params, memory

    def best(state, params, memory, step):
        return params, memory

    def mark_failed(state):
        return state._replace(failing=jnp.bool(True))

    return Schedule(start, update, best, mark_failed)
