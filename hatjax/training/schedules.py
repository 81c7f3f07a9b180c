"""Learning-rate schedules of a task: plateau (the paper's), cosine, constant."""

from typing import NamedTuple

import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.training import plateau
from hatjax.types import Array, Schedule


class Planned(NamedTuple):
    """Where a schedule stands that does not look at the validation loss."""

    lr: Array  # float32[], the rate of the next epoch
    top: Array  # float32[], the rate of epoch 0; divided by lr_factor after each failed epoch
    epoch: Array  # int32[], epochs learned
    failing: Array  # bool[], whether the loss of the epoch that ends is not a number
    done: Array  # bool[]


def make(config: ConfigDict) -> Schedule:
    """The schedule of config.schedule: "plateau", "cosine" or "constant" (config.check)."""
    return plateau.make(config) if config.schedule == "plateau" else planned(config)


def planned(config: ConfigDict) -> Schedule:
    """A rate that depends on the number of the epoch alone; a task ends with its last parameters.

    "constant": config.lr. "cosine": lr [1 + cos(pi e/E)] / 2 in epoch e = 0..E-1 of E =
    config.epochs, which falls to nearly 0; then the task ends. After an epoch whose loss is not a
    number, with config.on_nan = "lower", the rates of all later epochs are divided by lr_factor;
    the task ends once lr divided so is below lr_min.
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
        done = state.done | (top < step.hyper.lr_min) | (epoch >= config.epochs)
        return Planned(rate(top, epoch), top, epoch, jnp.bool(False), done), params, memory

    def best(state, params, memory, step):
        return params, memory

    def mark_failed(state):
        return state._replace(failing=jnp.bool(True))

    return Schedule(start, update, best, mark_failed)
