"""Less-Forgetful Learning (Jung, Ju, Jung and Kim, 2016).

While a task is learned, the features of its images, which the heads read, are pulled towards those
that the network gave before the task.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.fidelity import departures
from hatjax.networks import rows
from hatjax.training.losses import mean
from hatjax.types import Approach, Array, Network, Tree

BATCH = 64  # of the published code: the unit of its lambda


class Settings(NamedTuple):
    lamb: float = 0.05  # weight of the features' squared distance, summed over BATCH examples
    clip: float = 200.0  # largest global norm of a gradient


def body(params: Tree, task: Array) -> Tree:
    """The parameters that the features of a task depend on: the trunk, the task's norms."""
    return rows.take({k: params[k] for k in ("trunk", "norms", "stats")}, task)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + lambda/2 BATCH |h - h*|^2, the mean over the examples of a batch.

    h "b d" are the features and h* those of the network before the task, both without dropout.
    memory: "old", the trunk as the last task left it, with the norms of that task. There is no pull
    in the first task.

    The published code takes the sum over the batch, so that lambda = 0.05 pulls twice as strongly
    in batches of twice the size; BATCH makes the mean as strong as that sum in its own batches.
    There h is what the head reads in training: with dropout in the layers below, and none between
    the last layer and the heads (hatjax.fidelity; a network without `undropped` has its own).
    """
    chosen = departures(config)
    if not chosen.distance_without_dropout:
        network = network._replace(apply=network.undropped or network.apply)
    base = sgd.make(config, network)

    def init(key):
        params, _ = base.init(key)
        return params, {"old": jax.tree.map(jnp.zeros_like, body(params, 0))}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        h = out.features  # "b d"
        if chosen.distance_without_dropout:
            h = network.apply(params, batch.x, step.task).features
        old = network.apply(params | memory["old"], batch.x, step.task).features
        far = mean(jnp.sum(jnp.square(h - old), axis=-1) / 2, batch)
        # The published validation has batches of config.batch, too, and not of eval_batch.
        summed = jnp.minimum(jnp.sum(batch.weight), config.batch)
        size = BATCH if chosen.mean_distance else summed
        return entropy + (step.seen > 0) * step.hyper.approach.lamb * size * far, out

    def end_task(params, memory, data, step):
        return params, {"old": body(params, step.task)}

    return base._replace(init=init, loss=loss, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="LFL",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 100)},
)
