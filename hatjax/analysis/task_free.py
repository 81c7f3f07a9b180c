"""Without being told the task: which of the learned tasks an example is of, and its class.

The network answers as for every task, with the task's gates, head and norms and with its mean and
std, and the task whose answer is the surest is taken. The order of the pixels of a permuted task is
no part of that: the images come in it, and an image would else fit all tasks. How sure an answer
is, is one of

    softmax     the largest probability (Hendrycks and Gimpel, ICLR 2017)
    entropy     the negative entropy of the probabilities, in nats
    energy      log sum_c exp(logit_c) (Liu et al., NeurIPS 2020), less its mean and divided by its
                standard deviation on the task's own held-out examples: heads differ in their scale

The shapes are "T b C": T tasks, b examples, C classes of the largest task.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hatjax.analysis import models, which
from hatjax.analysis.blocks import in_blocks, traced
from hatjax.analysis.inputs import normalised
from hatjax.analysis.models import Model
from hatjax.errors import InputError, unknown
from hatjax.training import train
from hatjax.types import Array, Hyper, Tree
from hatjax.workdir import results

METHODS = ("softmax", "entropy", "energy")
DEFAULT = "entropy"
HELD_OUT = 2000  # examples at most, by which the energy of a task is calibrated


class TaskFree(NamedTuple):
    """The answers for n examples whose task is not told."""

    label: np.ndarray  # "n" the class among those of all tasks, in learning order; or its name
    task: np.ndarray  # "n" the task that was found, from 0
    within: np.ndarray  # "n" the class among those of that task: label counts the tasks before it
    score: np.ndarray  # "n" how sure the answer is, by the method


class PerTask(NamedTuple):
    """What T tasks have of their own, beside parameters; in any order of the tasks."""

    rows: Array  # "T" in the per-task arrays
    mean: Array  # "T c"
    std: Array  # "T c"
    energy: Array  # "T 2" mean and standard deviation on held-out examples; NaN if not known


def energy(logits: Array) -> Array:
    """log sum_c exp(logit_c), "... C" -> "..."."""
    return jax.nn.logsumexp(logits, axis=-1)


def scores(logits: Array, calibration: Array) -> Array:
    """How sure each task's answer is by each of METHODS, "T b C" and "T 2" -> "M T b"."""
    log_p = jax.nn.log_softmax(logits)
    p = jnp.exp(log_p)
    entropy = jnp.sum(jnp.where(p > 0, p * log_p, 0), axis=-1)
    mean, std = calibration[:, 0, None], calibration[:, 1, None]
    return jnp.stack([jnp.max(p, axis=-1), entropy, (energy(logits) - mean) / std])


@functools.partial(jax.jit, static_argnames="predict")
def answers(
    predict: Callable,
    params: Tree,
    memory: Tree,
    hyper: Hyper,
    own: PerTask,
    x: Array,
) -> Array:
    """For raw images "b h w c", by each method: "b M 3", the task (its place in `own`), the class
    in it, the score. One pass through the network, vmapped over the tasks.

    `predict` is that of an approach, "b M 3" numbers are float32.
    """

    def one(own: PerTask) -> Array:
        inputs = normalised(x, x.shape[1:], own.mean, own.std, None)
        return predict(params, memory, inputs, own.rows, hyper)

    logits = jax.vmap(one)(own)
    sure = scores(logits, own.energy)  # "M T b"
    found = jnp.argmax(sure, axis=1)  # "M b"
    within = jnp.argmax(logits, axis=-1)  # "T b"
    each = [found, jnp.take_along_axis(within, found, axis=0), jnp.max(sure, axis=1)]
    return jnp.stack([v.astype(jnp.float32) for v in each], axis=-1).swapaxes(0, 1)


@functools.partial(jax.jit, static_argnames="predict")
def energies(
    predict: Callable,
    params: Tree,
    memory: Tree,
    hyper: Hyper,
    own: PerTask,
    x: Array,
) -> Array:
    """The energy "b" of raw images of a task; `own` is without the axis of tasks."""
    inputs = normalised(x, x.shape[1:], own.mean, own.std, None)
    return energy(predict(params, memory, inputs, own.rows, hyper))


def calibration(values: np.ndarray) -> np.ndarray:
    """The mean and the standard deviation of energies "n"; a deviation of 0 counts as 1e-6."""
    return np.array([np.mean(values), max(float(np.std(values)), 1e-6)])


def block(size: int, tasks: int) -> int:
    """How many examples are classified at once: activations take as much memory as those of `size`
    examples of a known task."""
    return max(1, math.ceil(size / max(tasks, 1)))


def shares(found: Array, u: int, y: np.ndarray) -> dict[str, float]:
    """Of examples of task u with classes y "n", the shares that are right (results.READINGS).

    `found` "n 2" has their task and their class in it. task_found: the task is right.
    class_incremental: task and class are, as where all classes are to be told apart.
    domain_incremental: the class within the task is, whatever the task, as where all tasks have the
    same classes (van de Ven et al., Nature Machine Intelligence 2022).
    """
    task, within = found[:, 0] == u, found[:, 1] == y
    each = (task, task & within, within)
    return {k: float(np.mean(v)) for k, v in zip(results.READINGS, each, strict=True)}


def per_task_of(model: Model, tasks: Sequence[int]) -> PerTask:
    """What some tasks of a model have of their own."""
    some = list(tasks)
    energy = np.full((len(some), 2), np.nan) if model.energy is None else model.energy[some]
    rows = np.array(model.rows)[some]
    mean, std = (np.asarray(v[some], np.float32) for v in (model.mean, model.std))
    return PerTask(rows, mean, std, np.asarray(energy, np.float32))


def predict(
    model: Model,
    x: Any,
    task: int | None = None,
    probabilities: bool = False,
    names: bool = False,
    method: str = DEFAULT,
) -> Array | TaskFree:
    """Logits "n classes" of `task` (counted from 0) for raw images "n h w c"; without `task`, the
    task that is found and the class.

    Grey images may be "n h w"; feature vectors are "n d", or a table whose columns may stand in any
    order if training had a table, too. Pass images as they are in the data set (uint8, 0..255):
    normalisation and pixel order are applied here. With `probabilities` the softmax of the logits;
    with `names`, instead, the likeliest class of each example, "n", as one of `classes`. Raises
    InputError for a task that is unknown or was forgotten, a wrong image shape or dtype, numbers
    that are not finite or in another unit than in training, and columns that training did not have.
    With traced x or task, as inside jax.jit, it is model.apply.

    Without a task a TaskFree: all learned tasks answer, and that which is surest by the `method`,
    "softmax", "entropy" or "energy", is taken. It takes as many passes as there are tasks. With
    `names` its labels are names. Images of a permuted task t must then be in that task's order of
    pixels already: x.reshape(n, -1)[:, model.pixels[t]].reshape(x.shape).
    """
    which.check(model)
    if task is not None:
        return models.predict(model, x, task, probabilities, names)
    if traced(x):
        raise InputError("without a task x cannot be traced, as inside jax.jit: give a task, which "
                         "may be traced, and take jax.vmap over tasks")  # fmt: skip
    if probabilities:
        raise InputError("probabilities=True needs a task: without one there is a score")
    if method not in METHODS:
        raise unknown("method", str(method), METHODS)
    there = [t for t, learned in enumerate(model.learned) if learned]
    own = per_task_of(model, there)
    if method == "energy" and not np.isfinite(own.energy).all():
        raise InputError(
            "method='energy': the run was made before energies were calibrated: take 'softmax' or "
            "'entropy'"
        )
    x, hyper = raw(model, x, there), train.hyperparameters(model.config)
    function = functools.partial(
        answers, model.approach.predict, model.params, model.memory, hyper, own
    )
    size = min(block(model.config.eval_batch, len(there)), max(len(x), 1))
    found = in_blocks(function, x, size, whole=True)
    place, within, score = found[:, METHODS.index(method)].T
    tasks, within = np.array(there, int)[place.astype(int)], within.astype(int)
    label = firsts([len(models.classes(model, t)) for t in range(len(model.names))])[tasks] + within
    if names:
        called = [models.classes(model, t) for t in range(len(model.names))]
        label = np.array([called[t][c] for t, c in zip(tasks, within, strict=True)])
    return TaskFree(label, tasks, within, score)


def raw(model: Model, x: Any, tasks: Sequence[int]) -> np.ndarray:
    """Raw examples "n h w c", as one of the tasks was trained on. Raises as models.predict."""
    problem = None
    for about in dict.fromkeys(models.about_task(model, t) for t in tasks):
        try:
            return models.examples(models.as_trained(x, about), model.image)
        except InputError as error:
            problem = problem or error
    raise problem or InputError("the model has learned no task")


def firsts(classes: Sequence[int]) -> np.ndarray:
    """The first class of each task among those of all, "T"."""
    return np.concatenate([[0], np.cumsum(classes)[:-1]]).astype(int)
