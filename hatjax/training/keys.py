"""JAX's threefry keys with the rounds of the hash written out: the same bits, much faster.

For the CPU, JAX keeps the twenty rounds of the hash in a loop, whose many small operations cost
more than all the bits of a small network's dropout.
"""

import math
from collections.abc import Hashable

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from hatjax.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: Array, hi: Array, lo: Array) -> tuple[Array, Array]:
    """The hash of the counters (hi, lo), uint32 of any shape, under a key "2": two words for each.

    Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    SC 2011); jax.extend.random.threefry2x32_p gives the same.
    """
    k = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = hi + k[0], lo + k[1]
    for block in range(1, 6):
        for r in ROTATIONS[(block - 1) % 2]:
            a = a + b
            b = a ^ (b << r | b >> (32 - r))
        a, b = a + k[block % 3], b + k[(block + 1) % 3] + jnp.uint32(block)
    return a, b


def _bits(key: Array, width: int, shape: tuple[int, ...]) -> Array:
    n = math.prod(shape)
    if width != 32 or n >= 2**32:
        raise ValueError(f"these keys give fewer than 2**32 words of 32 bits: got {width}, {shape}")
    half = -(-n // 2)

    def words(i: Array) -> Array:
        hi, lo = threefry(key, jnp.uint32(0), i * half + jnp.arange(half, dtype=jnp.uint32))
        return hi ^ lo

    # One half after the other, in a loop, through which the compiler does not fuse: else dropout
    # would compute every word again for each of the four bytes that it reads of it.
    return jax.lax.map(words, jnp.arange(2, dtype=jnp.uint32)).reshape(-1)[:n].reshape(shape)


def _split(key: Array, shape: tuple[int, ...]) -> Array:
    words = threefry(key, jnp.uint32(0), jnp.arange(math.prod(shape), dtype=jnp.uint32))
    return jnp.stack(words, axis=-1).reshape(*shape, 2)


def _fold_in(key: Array, data: Array) -> Array:
    return jnp.stack(threefry(key, jnp.uint32(0), jnp.asarray(data, jnp.uint32)))


IMPLEMENTATION: Hashable = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.stack([jnp.uint32(0), seed.astype(jnp.uint32)]),
    split=_split,
    random_bits=_bits,
    fold_in=_fold_in,
    name="threefry, written out",
    tag="tfw",
)


def key(seed: Array) -> Array:
    """The key of jax.random.key(seed), whose bits are computed as said above."""
    return jax.random.key(seed, impl=IMPLEMENTATION)


def plain(key: Array) -> Array:
    """`key` as one of JAX's own threefry keys, with the same bits: for what is computed once, since
    the rounds take long to compile where many arrays are drawn."""
    return jax.random.wrap_key_data(jax.random.key_data(key), impl="threefry2x32")
