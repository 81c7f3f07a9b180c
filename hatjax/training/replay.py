"""A buffer of examples of the tasks so far, filled and sampled inside the compiled epoch.

It is kept by reservoir sampling (Vitter, "Random sampling with a reservoir", 1985): of N examples
that came along, each is in a buffer of M with the probability M / N, and N need not be known.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hatjax.types import Array, Batch

CHUNK = 64  # examples of a buffer that are given to a function at once


class Buffer(NamedTuple):
    """Examples as the network sees them. The first min(count, M) of the M places are taken."""

    x: Array  # "M h w c" float32, normalised as their task is, augmented as they were when seen
    y: Array  # "M" int32
    task: Array  # "M" int32, the row of each example's task
    count: Array  # int32[], how many examples came along


def empty(size: int, image: tuple[int, ...]) -> Buffer:
    """A buffer of `size` places for images "h w c"."""
    numbers = jnp.zeros(size, jnp.int32)
    return Buffer(jnp.zeros((size, *image)), numbers, numbers, jnp.int32(0))


def add(buffer: Buffer, batch: Batch, key: Array) -> Buffer:
    """The buffer after the real examples of a batch came along, one after the other.

    Example n of all, counted from 0, goes to place n while places are free; later to a random place
    of 0..n, and is dropped if the buffer has no such place. Of several that draw the same place the
    last is kept.
    """
    size = len(buffer.y)
    real = batch.weight > 0
    n = buffer.count + jnp.cumsum(real.astype(jnp.int32)) - 1  # "b"
    drawn = jax.random.randint(key, n.shape, 0, jnp.maximum(n, 0) + 1)
    place = jnp.where(real, jnp.where(n < size, n, drawn), size)
    # The last of each place alone is written: the order of several writes is not defined.
    number = jnp.arange(len(n), dtype=jnp.int32)
    last = jnp.full(size, -1, jnp.int32).at[place].max(number, mode="drop")
    place = jnp.where(last[jnp.minimum(place, size - 1)] == number, place, size)

    def put(kept: Array, new: Array) -> Array:
        return kept.at[place].set(new, mode="drop")

    return Buffer(
        put(buffer.x, batch.x),
        put(buffer.y, batch.y),
        put(buffer.task, batch.task),
        buffer.count + jnp.sum(real, dtype=jnp.int32),
    )


def older(buffer: Buffer, task: Array) -> Array:
    """Which places have an example of another task than `task`, "M" bool."""
    return (jnp.arange(len(buffer.y)) < buffer.count) & (buffer.task != task)


def draw(buffer: Buffer, among: Array, size: int, key: Array) -> tuple[Batch, Array]:
    """A random batch of the places `among` "M" bool, none twice, and its places.

    It has min(size, M) examples; where `among` has fewer, the rest have weight 0.
    """
    rank = jnp.where(among, jax.random.uniform(key, among.shape), -1)
    best, place = lax.top_k(rank, min(size, len(among)))
    weight = (best >= 0).astype(jnp.float32)
    return Batch(buffer.x[place], buffer.y[place], buffer.task[place], weight), place


def each(function: Callable[[Array, Array], Array], buffer: Buffer) -> Array:
    """What function(x "1 h w c", task "1") gives for each place, without its axis "1": "M ..."."""

    def one(example: tuple[Array, Array]) -> Array:
        return function(*(v[None] for v in example))[0]

    return lax.map(one, (buffer.x, buffer.task), batch_size=min(CHUNK, len(buffer.y)))
