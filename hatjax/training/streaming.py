"""Training on images that stay on the host: the program of hatjax.training.replicas, in parts.

The same steps on the same batches in the same order: the results have the same bits.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax.data import feed, stream
from hatjax.data.stream import Stream
from hatjax.errors import InputError
from hatjax.training import device_memory, replicas, train
from hatjax.types import Approach, Array, Data, Hyper, State, Task, Tree, Turn


def compile(
    config: ConfigDict, approach: Approach, placement: replicas.Placement
) -> train.Program:
    """As replicas.compile, but the data of its functions are Streams."""
    whole = replicas.compile(config, approach, placement.padded)
    f = replicas.compile_parts(config, approach, placement.padded)

    def epoch(state: State, data: Stream, valid: Stream, turn: Turn, hyper: Hyper):
        order, key = f.shuffle(state, data.labels)
        done = f.start(state, data.labels, turn, hyper)
        for some, first, until in stream.stretches(data, config.batch, placement.fetch(order)):
            jax.block_until_ready(done)  # of what is put on the device, at most one waits
            done = f.steps(done, state, some, order, turn, key, hyper, first, until)
        trained = f.stop(done, state, data.labels, turn, hyper)
        scores = evaluate(trained[0].params, trained[0].memory, valid, turn, hyper)
        return f.close(state, trained, scores, data.labels, turn, hyper)

    def evaluate(params: Tree, memory: Tree, data: Stream, turn: Turn, hyper: Hyper):
        sums = placement.put(
            jax.tree.map(lambda v: np.full(placement.padded, v, np.float32), train.Sums(0, 0))
        )
        for some, first, until in stream.stretches(data, config.eval_batch):
            jax.block_until_ready(sums)
            sums = f.score(sums, params, memory, some, turn, hyper, first, until)
        return f.means(sums, data.labels)

    def end(state: State, data: Stream, turn: Turn, hyper: Hyper) -> tuple[Tree, Tree]:
        return whole.end(state, data.labels, turn, hyper)

    return whole._replace(epoch=epoch, end=end, evaluate=evaluate)


def put(
    placement: replicas.Placement,
    versions: Sequence[Sequence[Task]],
    version: Sequence[int],
    t: int,
    split: str,
    length: int,
    union: bool = False,
) -> Stream:
    """Task t's `split`, padded to `length`, in several versions; the arguments are as of feed.pad.

    `version` "R" is the index of each run's version, as in feed.stack. Training data
    have a version for each run, since each run reads its images in an order of its own.
    """
    each = [feed.labels(tasks, t, split, length, union) for tasks in versions]
    return Stream(
        placement.data(feed.stack(each, version)),
        [int(data.n) for data in each],
        [functools.partial(feed.images, tasks, t, split, union=union) for tasks in versions],
        placement.copy,
    )


def put_alone(
    tasks: Sequence[Task], t: int, split: str, length: int, union: bool = False
) -> Stream:
    """The same of a single run, without the axis of runs; the arguments are as of feed.put."""
    labels = feed.labels(tasks, t, split, length, union)
    images = functools.partial(feed.images, tasks, t, split, union=union)
    return Stream(jax.device_put(labels), [int(labels.n)], [images], jax.device_put)


def gradient_sizes(
    config: ConfigDict,
    approach: Approach,
    state: State,
    data: Stream,
    turn: Turn,
    hyper: Hyper,
    i: int,
) -> Tree:
    """As train.gradient_sizes, of a single run, without the axis of runs."""
    f = jax.tree.map(jax.jit, train.parts(config, approach))
    order, key = f.shuffle(state, data.labels)
    done = f.start(state, data.labels, turn, hyper)
    for some, first, until in stream.stretches(data, config.batch, np.asarray(order)[None]):
        jax.block_until_ready(done)
        done = f.steps(done, state, some, order, turn, key, hyper, first, np.minimum(until, i))
        if i < until:
            return f.sizes(done, state, some, order, turn, key, hyper, i)
    raise ValueError(f"there is no batch {i}")


class Reads(Exception):
    """An approach reads images that are not on the device."""


class Elsewhere:
    """What stands for images that are not on the device."""

    def __getattr__(self, name: str) -> Array:
        raise Reads

    def __getitem__(self, index: object) -> Array:
        raise Reads


def check(config: ConfigDict, approach: Approach, tasks: list[Task]) -> None:
    """Raise InputError if images are streamed that the approach needs at the end of a task."""
    if not device_memory.streams(config, tasks, approach.union):
        return

    def end(data: Data) -> tuple[Tree, Tree]:
        params, memory = approach.init(jax.random.key(0))
        step = train.evaluation_step(Turn(data.n, data.n), train.hyperparameters(config))
        step = step._replace(key=jax.random.key(0))
        return approach.end_task(params, memory, data._replace(x=Elsewhere()), step)

    labels = feed.labels(tasks, 0, "train", len(tasks[0].train.y))
    try:
        jax.eval_shape(end, labels)
    except Reads:
        told = device_memory.streamed(config, tasks, approach.union)
        raise InputError(
            f"config.approach.name = {config.approach.name!r} reads the training images at the end "
            f"of a task, which cannot be done here: {told}; take fewer images "
            "(--config.data.examples), or --config.data.stream=no"
        ) from None
