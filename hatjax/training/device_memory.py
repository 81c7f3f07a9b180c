"""What runs take of a device's memory, by a rough estimate: how many fit, whether images do."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.data import feed, lazy, memory, stream
from hatjax.training import train
from hatjax.types import Approach, Batch, Task, Turn

STREAMED = 0.5  # of the memory of a device: more than that of images stay on the host
SHARE = 0.6  # of the free memory that replicas may fill, by a rough estimate


def streams(config: ConfigDict, tasks: Sequence[Task], union: bool) -> bool:
    """Whether images stay on the host (hatjax.training.streaming): as config.data.stream says.

    With "auto" they do if those of a task of one run take more than the share STREAMED of a device,
    or lie on the disk (hatjax.data.lazy).
    """
    if config.data.stream != "auto":
        return config.data.stream == "yes"
    if any(lazy.stays(task.train.x) for task in tasks):
        return True
    return image_bytes(tasks, union) > STREAMED * memory_of_device()


def streamed(config: ConfigDict, tasks: Sequence[Task], union: bool) -> str:
    """What is told where images are streamed."""
    return (
        f"images are streamed from the host (config.data.stream = {config.data.stream}: those of a "
        f"task take up to {image_bytes(tasks, union) / 1e6:,.1f} MB, a device has "
        f"{memory_of_device() / 1e6:,.0f} MB)"
    )


def image_bytes(tasks: Sequence[Task], union: bool) -> int:
    """The most that the images of a task take, those of training and validation or of the test."""
    learned = [len(task.train.y) + len(task.valid.y) for task in tasks]
    tested = max(len(task.test.y) for task in tasks)
    x = tasks[0].train.x
    return max((sum if union else max)(learned), tested) * math.prod(x.shape[1:]) * x.itemsize


def memory_of_device() -> int:
    """The bytes that a device has, whether free or not; for the CPU those of the host, shared."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    return memory.size() // jax.local_device_count()


def fit(config: ConfigDict, approach: Approach, tasks: Sequence[Task]) -> int:
    """How many replicas fill the free memory of all devices, at least one; an estimate."""
    free = SHARE * free_memory() * jax.device_count()
    return max(1, int(free / bytes_of_one(config, approach, tasks)))


def bytes_of_one(config: ConfigDict, approach: Approach, tasks: Sequence[Task]) -> int:
    """The memory that a replica takes; an estimate.

    It holds its parameters about six times (old, new, gradient, best, before the epoch, and one
    more while they change), its memory, what a batch of training or of evaluation takes, and, at
    worst, the images of a task of its own.
    """
    params, memory = jax.eval_shape(approach.init, jax.random.key(0))
    step = train.evaluation_step(Turn(jnp.int32(0), jnp.int32(0)), train.hyperparameters(config))
    own = jax.eval_shape(approach.take, params, memory, step)
    image = tasks[0].train.x.shape[1:]

    def scratch(function: Callable, size: int) -> int:
        numbers = jax.ShapeDtypeStruct((size,), jnp.int32)
        x = jax.ShapeDtypeStruct((size, *image), jnp.float32)
        batch = Batch(x, numbers, numbers, jax.ShapeDtypeStruct((size,), jnp.float32))
        compiled = jax.jit(function).lower(own, memory, batch, step).compile()
        analysis: Any = compiled.memory_analysis()
        return analysis.temp_size_in_bytes

    size, eval_size = batches(config, approach, tasks)
    used = [scratch(approach.loss, eval_size)]
    if approach.trained:
        used.append(scratch(functools.partial(train.gradient, approach), size))
    examples = [len(task.train.y) + len(task.valid.y) + len(task.test.y) for task in tasks]
    most = (sum if approach.union else max)(examples)
    images = most * math.prod(image) * tasks[0].train.x.itemsize
    if streams(config, tasks, approach.union):
        images = 2 * stream.BYTES
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((6 * [params], memory)))
    return kept + max(used) + images


def batches(config: ConfigDict, approach: Approach, tasks: Sequence[Task]) -> tuple[int, int]:
    """config.batch and eval_batch, each halved until below twice the examples (feed.at_most)."""
    train, valid = (feed.capacity(tasks, k, 1, approach.union) for k in ("train", "valid"))
    test = feed.capacity(tasks, "test", 1)
    found = []
    for size, most in ((config.batch, train), (config.eval_batch, max(valid, test))):
        while size >= 2 * most:
            size = (size + 1) // 2
        found.append(size)
    return found[0], found[1]


def fitting(
    config: ConfigDict, approach: Approach, tasks: Sequence[Task], count: int, free: float
) -> str:
    """What to change where `free` bytes a device do not hold `count` replicas, by this estimate."""
    free *= SHARE * jax.device_count()

    def gigabytes(size: float) -> str:
        return f"{size / 2**30:.2g} GiB"

    need = bytes_of_one(config, approach, tasks)
    if count > 1 and need <= free:
        most = min(count - 1, int(free / need))
        return (
            f"{count} runs at once take about {count} x {gigabytes(need)}, and "
            f"{gigabytes(free)} can be filled: --config.at_once={most}"
        )
    smaller = config.copy_and_resolve_references()
    smaller.batch, smaller.eval_batch = batches(config, approach, tasks)
    most = smaller.batch
    while max(smaller.batch, smaller.eval_batch) > 1 and need > free:
        smaller.batch, smaller.eval_batch = (smaller.batch + 1) // 2, (smaller.eval_batch + 1) // 2
        need = bytes_of_one(smaller, approach, tasks)
    if need > free or smaller.batch == most:
        return (
            f"a run takes about {gigabytes(need)}, and {gigabytes(free)} can be filled: a smaller "
            "network (--config.network.widths), fewer images (--config.data.examples) or smaller "
            "batches (--config.batch, --config.eval_batch)"
        )
    return (
        f"{gigabytes(free)} can be filled: --config.batch={smaller.batch} "
        f"--config.eval_batch={smaller.eval_batch}"
    )


def free_memory() -> int:
    """Bytes that are free on a device; for the CPU those of the host, shared by its devices."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except OSError:  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return free // jax.local_device_count()
