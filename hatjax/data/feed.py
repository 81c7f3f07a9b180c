"""Feed training: from a task's images on the host to batches of network inputs on the device."""

import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from hatjax.data import memory
from hatjax.data.tasks import by_row
from hatjax.errors import InputError
from hatjax.types import Array, Batch, Data, Task, Turn


def capacity(tasks: Sequence[Task], split: str, batch: int, union: bool = False) -> int:
    """The length N that fits `split` of any task (`union`: of all tasks), in full batches.

    A batch larger than that is cut to it, rather than padded (`at_most`).
    """
    most = (sum if union else max)(len(getattr(task, split).y) for task in tasks)
    return -(-most // batch) * batch if batch < most else most


def at_most(size: int, data: Data) -> int:
    """The examples of a batch: `size`, or all N of the padded data if those are fewer."""
    return min(size, data.y.shape[1])


def fits(config: ConfigDict, tasks: Sequence[Task], streamed: bool = False) -> None:
    """Raise InputError if memory does not hold a task's padded images and one batch.

    The batch counts as float32 inputs and the activations of the layers. Images that are `streamed`
    need no memory.
    """
    image = math.prod(tasks[0].train.x.shape[1:])
    for field, split in (("batch", "train"), ("eval_batch", "valid"), ("eval_batch", "test")):
        size = config[field]
        length = capacity(tasks, split, size)
        kept = 0 if streamed else length * image * tasks[0].train.x.itemsize
        memory.fits(
            kept + 4 * min(size, length) * (image + sum(config.network.get("widths", ()))),
            f"config.{field} = {size}: the {split} images of a task, in batches of that size,",
            "choose a smaller one",
        )


def count(tasks: Sequence[Task], t: int, split: str, union: bool = False) -> int:
    """The number of examples in task t's `split`; with `union`, in those of tasks 0..t."""
    return sum(len(getattr(task, split).y) for task in tasks[0 if union else t : t + 1])


def check_augment(config: ConfigDict, tasks: Sequence[Task]) -> None:
    """Raise InputError if config.data.augment does not apply to these examples."""
    height, width = tasks[0].train.x.shape[1:3]
    permuted = any(task.pixels is not None for task in tasks)
    if config.data.augment and (permuted or height == width == 1):
        raise InputError(
            f"config.data.augment = {config.data.augment}: "
            f"{'their pixels are permuted' if permuted else 'feature vectors are no images'}, so "
            "they cannot be cropped or flipped: leave it at ()"
        )


MARGIN = 4  # pixels of padding before a random crop, for images of 32 pixels a side


def augmented(config: ConfigDict, batch: Batch, key: Array) -> Batch:
    """The batch with its images "b h w c" augmented as config.data.augment says.

    "crop": padded on every side by 1/8 of the side with the mean colour, then cropped at random to
    the old size. "flip": mirrored left to right with probability 1/2.
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
    """The same as `pad`, on the device."""
    return jax.device_put(pad(tasks, t, split, length, union))


def stack(versions: Sequence[Data], version: Sequence[int]) -> Data:
    """The data of all replicas, on the host: `versions` concatenated, one for each seed.

    `version` "R" is the index of each replica's data. n is "R" too, unless it is the same for all.
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
    """Task t of the sequence, and its row in the per-task arrays."""
    return Turn(np.int32(tasks[t].row), np.int32(t))


def pad(tasks: Sequence[Task], t: int, split: str, length: int, union: bool = False) -> Data:
    """Task t's `split` ("train", "valid" or "test"), padded to `length` examples, on the host.

    With `union`, those of tasks 0..t, concatenated. Images keep their dtype (uint8). A task's pixel
    permutation is applied here, so that all permuted tasks share one copy of the images on the
    host.
    """
    data = labels(tasks, t, split, length, union)
    x = images(tasks, t, split, np.arange(data.n), union)
    return data._replace(x=np.pad(x, [(0, length - len(x))] + [(0, 0)] * (x.ndim - 1))[None])


def labels(tasks: Sequence[Task], t: int, split: str, length: int, union: bool = False) -> Data:
    """The same as `pad`, without an image."""
    chosen = range(t + 1) if union else (t,)
    ys = [getattr(tasks[u], split).y for u in chosen]
    y, shape = np.concatenate(ys), tasks[t].train.x.shape[1:]
    task = np.repeat([tasks[u].row for u in chosen], [*map(len, ys)]).astype(np.int32)
    rest = length - len(y)
    mean, std = (np.stack(by_row(tasks, field)) for field in ("mean", "std"))
    return Data(
        x=np.empty((1, 0, *shape), dtype_of(tasks, chosen, split)),
        y=np.pad(y.astype(np.int32), (0, rest))[None],
        task=np.pad(task, (0, rest), constant_values=tasks[t].row)[None],
        version=np.int32(0),
        n=np.int32(len(y)),
        mean=mean.astype(np.float32),
        std=std.astype(np.float32),
    )


def images(
    tasks: Sequence[Task], t: int, split: str, places: np.ndarray, union: bool = False
) -> np.ndarray:
    """The images at these `places` of task t's `split`; `union` as in `pad`.

    The pixel permutations of the tasks are applied.
    """
    if not union:
        x, pixels = getattr(tasks[t], split).x[places], tasks[t].pixels
        return x if pixels is None else x.reshape(len(x), -1)[:, pixels].reshape(x.shape)
    ends = np.cumsum([len(getattr(task, split).y) for task in tasks[: t + 1]])
    owner = np.searchsorted(ends, places, side="right")  # the task of each place
    dtype = dtype_of(tasks, range(t + 1), split)
    found = np.empty((len(places), *tasks[t].train.x.shape[1:]), dtype)
    for u, end in enumerate(ends):
        mine = places[owner == u] - (end - len(getattr(tasks[u], split).y))
        found[owner == u] = images(tasks, u, split, mine)
    return found


def dtype_of(tasks: Sequence[Task], chosen: Iterable[int], split: str) -> np.dtype:
    """The dtype that holds the images of the `chosen` tasks' `split` together."""
    return np.result_type(*(getattr(tasks[u], split).x.dtype for u in chosen))


AXIS = "data"  # of the mesh of devices (training.replicas.Placement): they share a batch


def shared(config: ConfigDict, batch: Batch) -> Batch:
    """The batch with its examples in equal shares on the devices of config.mesh.data.

    All that is computed from it is then computed where the examples are, and the compiler sums the
    gradients over the devices.
    """
    if config.mesh.data == 1:
        return batch
    return lax.with_sharding_constraint(batch, PartitionSpec(AXIS))


def shuffle(key: Array, data: Data) -> Array:
    """A random order of the examples, "N" int32, with the padding at the end."""
    length = data.y.shape[1]
    place = jnp.arange(length, dtype=jnp.int32)
    rank = jnp.where(place < data.n, jax.random.uniform(key, (length,)), jnp.inf)
    return jnp.argsort(rank).astype(jnp.int32)


def trips(data: Data, size: int) -> Array:
    """The number of batches of `size`, including a smaller last one."""
    return (data.n + size - 1) // size


def batch(data: Data, order: Array | None, i: Array, size: int) -> Batch:
    """Batch i of `size` normalised examples in `order` "N" (None: as stored), with weights."""
    place = i * size + jnp.arange(size, dtype=jnp.int32)
    index = jnp.minimum(place, data.y.shape[1] - 1)
    index = index if order is None else order[index]
    lies = index if data.first is None else jnp.minimum(place - data.first, data.x.shape[1] - 1)
    task = data.task[data.version, index]
    mean, std = data.mean[task][:, None, None], data.std[task][:, None, None]  # "b 1 1 c"
    x = (data.x[data.version, lies].astype(jnp.float32) - mean) / std
    y = data.y[data.version, index]
    return Batch(x, y, task, (place < data.n).astype(jnp.float32))
