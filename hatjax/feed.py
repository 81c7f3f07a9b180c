"""From a task's images on the host to batches of network inputs on the device."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hatjax import limits
from hatjax.tasks import by_row
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
        limits.fits(
            kept + 4 * size * (image + sum(config.network.widths)),
            f"config.{field} = {size}: the {split} images of a task, in batches of that size,",
            "choose a smaller one",
        )


def count(tasks: Sequence[Task], t: int, split: str, union: bool = False) -> int:
    """The number of examples of task t's `split`; with `union` of the tasks 0..t."""
    return sum(len(getattr(task, split).y) for task in tasks[0 if union else t : t + 1])


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
