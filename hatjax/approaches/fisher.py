"""The diagonal of the Fisher information: how much the loss minds a change of each weight."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from hatjax import feed
from hatjax.types import Array, Data, Tree

CHUNK = 16  # examples whose gradients are held at once
SIZE = 20  # the batches of the published code

Loss = Callable[..., Array]  # (params, batch, key) -> the mean over the batch


def per_example(loss: Loss, params: Tree, data: Data) -> Tree:
    """F = 1/n sum_k (d loss_k / d params)^2 over the real examples k of `data`, without dropout.

    With the cross-entropy of the true labels this is the empirical Fisher information.
    """

    def one(params: Tree, example) -> Array:
        single = jax.tree.map(lambda v: v[None], example)
        return example.weight * loss(params, single._replace(weight=jnp.ones(1)), None)

    def body(i: Array, total: Tree) -> Tree:
        batch = feed.batch(data, None, i, CHUNK)
        grads = jax.vmap(jax.grad(one), in_axes=(None, 0))(params, batch)  # "CHUNK ..."
        return jax.tree.map(lambda f, g: f + jnp.sum(jnp.square(g), axis=0), total, grads)

    return _mean(body, params, data, CHUNK)


def per_batch(loss: Loss, params: Tree, data: Data, key: Array) -> Tree:
    """As the published code has it: 20/n sum_b g_b^2, g_b the gradient of batch b's mean loss.

    Batches have 20 examples in stored order, a smaller last one counts the same, and dropout is on.
    Gradients of different examples cancel in the mean, so this is about 1/20 of `per_example`.
    """

    def body(i: Array, total: Tree) -> Tree:
        batch = feed.batch(data, None, i, SIZE)
        grads = jax.grad(loss)(params, batch, jax.random.fold_in(key, i))
        return jax.tree.map(lambda f, g: f + SIZE * jnp.square(g), total, grads)

    return _mean(body, params, data, SIZE)


def _mean(body: Callable, params: Tree, data: Data, size: int) -> Tree:
    zeros = jax.tree.map(jnp.zeros_like, params)
    total = lax.fori_loop(0, feed.trips(data, size), body, zeros)
    return jax.tree.map(lambda f: f / data.n, total)
