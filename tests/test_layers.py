"""Layers whose computation is not the obvious one give the numbers and gradients of those."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax.networks import layers, stages
from hatjax.networks.stages import Stage


class Leave(nn.Module):
    stage: Stage

    @nn.compact
    def __call__(self, h):
        return stages.leave(self.stage, h)


def blocks(x):
    """The maximum of each 2x2 block, with JAX's own gradient."""
    b, h, w, c = x.shape
    even = x[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


@pytest.mark.parametrize("sides", [(6, 4), (7, 5)])
def test_pooling(sides):
    x = jax.random.normal(jax.random.key(0), (3, *sides, 2))
    (y, back), (want, own) = (jax.vjp(f, x) for f in (layers.pool, blocks))
    np.testing.assert_array_equal(y, want)
    g = jax.random.normal(jax.random.key(1), y.shape)
    np.testing.assert_array_equal(back(g)[0], own(g)[0])


def test_the_first_of_equal_numbers_has_the_gradient():
    x = jnp.array([[1.0, 3, 3, 2], [3, 3, 2, 0], [0, 0, -1, 5], [0, 0, 5, 5]])[None, :, :, None]
    g = jax.grad(lambda x: jnp.sum(layers.pool(x)))(x)[0, :, :, 0]
    np.testing.assert_array_equal(g, [[0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 4, 3)])
def test_an_affine_map_has_its_gradients(shape):
    keys = jax.random.split(jax.random.key(0), 4)
    x, w, b = (jax.random.normal(k, s) for k, s in zip(keys, (shape, (3, 2), (2,)), strict=False))

    def plain(x, w, b):
        return jnp.einsum("...i,io->...o", x, w) + jnp.expand_dims(b, range(x.ndim - 1))

    (y, back), (want, own) = (jax.vjp(f, x, w, b) for f in (layers.affine, plain))
    np.testing.assert_allclose(y, want, rtol=1e-6)
    g = jax.random.normal(keys[3], y.shape)
    for mine, theirs in zip(back(g), own(g), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


MAPS = {"sum": layers.affine, "squares": layers.affine_squares, "sizes": layers.affine_magnitudes}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="only a CPU computes in blocks")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("affine", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("fitting", [2, 3, 5])  # images whose patches are in the cache, of five
def test_patches_of_a_few_images_at_a_time(fitting, affine, stride, monkeypatch):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (5, 8, 7, 2), (18, 4), (4,)
    x, w, b = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=False))
    whole = layers.patches(x, 3, stride)
    monkeypatch.setattr(layers, "CACHE", fitting * whole[0].nbytes)

    def some(x, w, b):
        return layers.of_patches(x, w, b, 3, stride, affine)

    def all_at_once(x, w, b):
        return affine(layers.patches(x, 3, stride), w, b)

    assert ("scan" in str(jax.make_jaxpr(some)(x, w, b))) == (fitting < 5)
    (y, back), (want, own) = (jax.vjp(f, x, w, b) for f in (some, all_at_once))
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
    g = jax.random.normal(keys[3], y.shape)
    for mine, theirs in zip(back(g), own(g), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["patches", "native"])
@pytest.mark.parametrize("side", [10, 11])
def test_a_stage_is_a_convolution_relu_and_pooling(form, side):
    stage, layer = Stage("c1", 4, 0.0, 3, form), layers.Conv(4, 3, form=form)
    x = jax.random.normal(jax.random.key(0), (2, side, side, 3))
    params = layer.init(jax.random.key(1), x)

    def ours(params, x):
        return Leave(stage).apply({}, layer.apply(params, stages.enter(stage, x)))

    def published(params, x):
        return blocks(jax.nn.relu(layer.apply(params, x)))

    (y, back), (want, own) = (jax.vjp(f, params, x) for f in (ours, published))
    np.testing.assert_allclose(y, want, atol=1e-6)
    g = jax.random.normal(jax.random.key(2), y.shape)
    for mine, theirs in zip(*map(jax.tree.leaves, (back(g), own(g))), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
