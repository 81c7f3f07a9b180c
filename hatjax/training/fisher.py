"""The diagonal of the Fisher information: how strongly the loss depends on each weight."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from hatjax.data import feed
from hatjax.training.losses import cross_entropy
from hatjax.types import Array, Batch, Data, Network, Tree

CHUNK = 32  # examples whose gradients are held at once
SIZE = 20  # the batches of the published code

Loss = Callable[[Tree, Batch, Array], Array]  # (params, batch, key) -> the mean over the batch


def per_example(network: Network, params: Tree, data: Data, task: Array) -> Tree:
    """F = 1/n sum_k (d loss_k / d trunk)^2 over the real examples k of `data`, without dropout.

    loss_k is the cross-entropy of the true label at the head of `task`, so this is the empirical
    Fisher information. Returns a tree like params["trunk"]. With network.squares it takes about as
    long as an epoch of training; without it the gradient of every example is computed separately,
    CHUNK of them at once.
    """

    def entropy(apply: Callable, trunk: Tree, batch: Batch) -> Array:
        out = apply(params | {"trunk": trunk}, batch.x, task)
        return jnp.sum(batch.weight) * cross_entropy(out.logits, batch)

    def one(trunk: Tree, example: Batch) -> Array:
        single = jax.tree.map(lambda v: v[None], example)
        return example.weight * entropy(network.apply, trunk, single._replace(weight=jnp.ones(1)))

    def squares(batch: Batch) -> Tree:
        if network.squares is not None:
            return jax.grad(entropy, argnums=1)(network.squares, params["trunk"], batch)
        grads = jax.vmap(jax.grad(one), in_axes=(None, 0))(params["trunk"], batch)  # "CHUNK ..."
        return jax.tree.map(lambda g: jnp.sum(jnp.square(g), axis=0), grads)

    def body(i: Array, total: Tree) -> Tree:
        return jax.tree.map(jnp.add, total, squares(feed.batch(data, None, i, CHUNK)))

    return _mean(body, params["trunk"], data, CHUNK)


def per_batch(loss: Loss, params: Tree, data: Data, key: Array) -> Tree:
    """As the published code has it: 20/n sum_b g_b^2, g_b the gradient of batch b's mean loss.

    Batches have 20 examples in stored order; the last one, which may be smaller, counts as much as
    the others; dropout is on. `loss` takes (params, batch, key); returns a tree like `params`.
    The gradients of different examples cancel in a batch's mean, which makes it about 1/20 of
    `per_example` without dropout; with dropout they are larger, and it is about 1/4.
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
