"""Keys with the hash written out give the bits of JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax.training import keys


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_they_are_jax_s_keys(seed):
    theirs = jax.random.key(seed, impl="threefry2x32")
    ours = keys.key(np.uint32(seed))

    def draw(key):
        key, other = jax.random.split(jax.random.fold_in(key, 12345))
        many = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(other, i), (3, 2)))(
            jnp.arange(4)
        )
        return (
            jax.random.bits(key, (5001,)),
            jax.random.bits(key, ()),
            jax.random.uniform(other, (7, 3)),
            jax.random.key_data(jax.random.split(key, (2, 3))),
            many,
        )

    for other in (theirs, keys.plain(ours)):
        for a, b in zip(draw(ours), jax.jit(draw)(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_other_widths_are_refused():
    key = keys.key(0)
    with pytest.raises(ValueError, match="32 bits: got 8"):
        jax.random.bits(key, (2,), jnp.uint8)
