"""How strongly a loss depends on each weight: the diagonal of the Fisher information, and more."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from hatjax.data import feed
from hatjax.training.losses import cross_entropy
from hatjax.types import Apply, Array, Batch, Data, Network, Out, Tree

CHUNK = 32  # examples whose gradients are held at once
SIZE = 20  # the batches of the published code

Loss = Callable[[Tree, Batch, Array], Array]  # (params, batch, key) -> the mean over the batch


def per_example(network: Network, params: Tree, data: Data, task: Array) -> Tree:
    """F = 1/n sum_k (d loss_k / d trunk)^2 over the real examples k of `data`, without dropout.

    loss_k is the cross-entropy of the true label at the head of `task`, so this is the empirical
    Fisher information. Returns a tree like params["trunk"]. With network.squares it takes about as
    long as an epoch of training.
    """

    def entropy(out: Out, batch: Batch) -> Array:
        return jnp.sum(batch.weight) * cross_entropy(out.logits, batch)

    return mean_size(network, network.squares, jnp.square, entropy, params, data, task)


def mean_size(
    network: Network,
    summed: Apply | None,
    size: Callable[[Array], Array],
    loss: Callable[[Out, Batch], Array],
    params: Tree,
    data: Data,
    task: Array,
) -> Tree:
    """1/n sum_k size(d loss_k / d trunk) over the real examples k of `data`, without dropout.

    `loss` (what the network gives, batch) is a sum over the examples, those of weight 0 left out.
    `size` is the square, and `summed` then network.squares, or the absolute value, and `summed`
    network.magnitudes; where that is None the gradient of every example is computed separately,
    CHUNK of them at once. Returns a tree like params["trunk"].
    """

    def total(apply: Callable, trunk: Tree, batch: Batch) -> Array:
        return loss(apply(params | {"trunk": trunk}, batch.x, task), batch)

    def one(trunk: Tree, example: Batch) -> Array:
        single = jax.tree.map(lambda v: v[None], example)._replace(weight=jnp.ones(1))
        return example.weight * total(network.apply, trunk, single)

    def sizes(batch: Batch) -> Tree:
        if summed is not None:
            return jax.grad(total, argnums=1)(summed, params["trunk"], batch)
        grads = jax.vmap(jax.grad(one), in_axes=(None, 0))(params["trunk"], batch)  # "CHUNK ..."
        return jax.tree.map(lambda g: jnp.sum(size(g), axis=0), grads)

    def body(i: Array, done: Tree) -> Tree:
        return jax.tree.map(jnp.add, done, sizes(feed.batch(data, None, i, CHUNK)))

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
