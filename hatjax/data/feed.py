"""From a task's images on the host to batches of network inputs on the device."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from hatjax.data import memory
from hatjax.data.tasks import by_row
from hatjax.errors import InputError
from hatjax.types import Array, Batch, Data, Split, Task, Turn


def capacity(tasks: Sequence[Task], split: str, batch: int, union: bool = False) -> int:
    """The padded length N that fits `split` of every task (of all together), in full batches."""
    most = (sum if union else max)(len(getattr(task, split).y) for task in tasks)
    return -(-most // batch) * batch


def fits(config: ConfigDict, tasks: Sequence[Task]) -> None:
    """Raise InputError if the machine's memory does not hold a task's images in full batches.

    Neither them, padded, nor a batch as the network takes it, with what the layers make of it.
    """
    image = math.prod(tasks[0].train.x.shape[1:])
    for field, split in (("batch", "train"), ("eval_batch", "valid"), ("eval_batch", "test")):
        size = config[field]
        kept = capacity(tasks, split, size) * image * tasks[0].train.x.itemsize
        memory.fits(
            kept + 4 * size * (image + sum(config.network.get("widths", ()))),
            f"config.{field} = {size}: the {split} images of a task, in batches of that size,",
            "choose a smaller one",
        )


def count(tasks: Sequence[Task], t: int, split: str, union: bool = False) -> int:
    """The number of examples of task t's `split`; with `union` of the tasks 0..t."""
    return sum(len(getattr(task, split).y) for task in tasks[0 if union else t : t + 1])


def check_augment(config: ConfigDict, tasks: Sequence[Task]) -> None:
    """Raise InputError if config.data.augment asks for what these examples do not allow."""
    height, width = tasks[0].train.x.shape[1:3]
    permuted = any(task.pixels is not None for task in tasks)
    if config.data.augment and (permuted or height == width == 1):
        raise InputError(
            f"config.data.augment = {config.data.augment}: "
            f"{'their pixels are permuted' if permuted else 'feature vectors have no sides'}, so "
            "they cannot be cropped or flipped: leave it at ()"
        )


MARGIN = 4  # pixels around an image that is cropped at random, for 32 pixels a side


def augmented(config: ConfigDict, batch: Batch, key: Array) -> Batch:
    """The batch with config.data.augment done to its images "b h w c".

    "crop": an eighth of a side is added all around, with the mean colour, and a window of the old
    size is cut out at random. "flip": mirrored left to right with probability 1/2.
    """
    x = batch.x
    _, height, width, channels = x.shape
    rows, columns, sides = jax.random.split(key, 3)
    if "crop" in config.data.augment:
        dy, dx = max(1, height * MARGIN // 32), max(1, width * MARGIN // 32)
        wide = jnp.pad(x, ((0, 0), (dy, dy), (dx, dx), (0, 0)))
        top = jax.random.randint(rows, (len(x),), 0, 2 * dy + 1)
        left = jax.random.randint(columns, (len(x),), 0, 2 * dx + 1)

        def window(image: Array, i: Array, j: Array) -> Array:
            return lax.dynamic_slice(image, (i, j, 0), (height, width, channels))

        x = jax.vmap(window)(wide, top, left)
    if "flip" in config.data.augment:
        mirrored = jax.random.bernoulli(sides, 0.5, (len(x), 1, 1, 1))
        x = jnp.where(mirrored, x[:, :, ::-1], x)
    return batch._replace(x=x)


def put(tasks: Sequence[Task], t: int, split: str, length: int, union: bool = False) -> Data:
    """What `pad` gives, on the device."""
    return jax.device_put(pad(tasks, t, split, length, union))


def stack(versions: Sequence[Data], version: Sequence[int]) -> Data:
    """What replicas read, on the host: the data of several seeds, and which is whose.

    `version` "R" is the one of each replica. n is "R" too, unless it is the same for all.
    """
    counts = [int(data.n) for data in versions]
    n = counts[0] if len(set(counts)) == 1 else np.array(counts, np.int32)[list(version)]
    x, y, task = (
        getattr(versions[0], k)
        if len(versions) == 1
        else np.concatenate([getattr(data, k) for data in versions])
        for k in ("x", "y", "task")
    )
    return versions[0]._replace(
        x=x, y=y, task=task, version=np.array(version, np.int32), n=np.int32(n)
    )


def turn(tasks: Sequence[Task], t: int) -> Turn:
    """Task t of the sequence `tasks`."""
    return Turn(np.int32(tasks[t].row), np.int32(t))


def pad(tasks: Sequence[Task], t: int, split: str, length: int, union: bool = False) -> Data:
    """Task t's `split` ("train", "valid" or "test"), padded to `length` examples, on the host.

    With `union` those of the tasks 0..t, one after the other. Images keep their dtype (uint8). A
    task's pixel permutation is applied here, so that on the host any number of permuted tasks share
    one copy of the images.
    """
    chosen = range(t + 1) if union else (t,)
    splits = [read(tasks[u], split) for u in chosen]
    x, y = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    task = np.repeat([tasks[u].row for u in chosen], [len(s.y) for s in splits]).astype(np.int32)
    rest = length - len(y)
    mean, std = (np.stack(by_row(tasks, field)) for field in ("mean", "std"))
    return Data(
        x=np.pad(x, [(0, rest)] + [(0, 0)] * (x.ndim - 1))[None],
        y=np.pad(y.astype(np.int32), (0, rest))[None],
        task=np.pad(task, (0, rest), constant_values=tasks[t].row)[None],
        version=np.int32(0),
        n=np.int32(len(y)),
        mean=mean.astype(np.float32),
        std=std.astype(np.float32),
    )


def read(task: Task, split: str) -> Split:
    """A split of a task with its pixels permuted."""
    x, y = getattr(task, split)
    if task.pixels is None:
        return Split(x, y)
    return Split(x.reshape(len(x), -1)[:, task.pixels].reshape(x.shape), y)


def shuffle(key: Array, data: Data) -> Array:
    """A random order of the real examples, "N" int32, the padding behind them."""
    length = data.y.shape[1]
    place = jnp.arange(length, dtype=jnp.int32)
    rank = jnp.where(place < data.n, jax.random.uniform(key, (length,)), jnp.inf)
    return jnp.argsort(rank).astype(jnp.int32)


def trips(data: Data, size: int) -> Array:
    """The number of batches of `size`, the last smaller one counted."""
    return (data.n + size - 1) // size


def batch(data: Data, order: Array | None, i: Array, size: int) -> Batch:
    """Batch i of `size` examples in `order` "N" (None: as stored), normalised and weighted."""
    place = i * size + jnp.arange(size, dtype=jnp.int32)
    index = jnp.minimum(place, data.y.shape[1] - 1)
    index = index if order is None else order[index]
    task = data.task[data.version, index]
    mean, std = data.mean[task][:, None, None], data.std[task][:, None, None]  # "b 1 1 c"
    x = (data.x[data.version, index].astype(jnp.float32) - mean) / std
    y = data.y[data.version, index]
    return Batch(x, y, task, (place < data.n).astype(jnp.float32))
