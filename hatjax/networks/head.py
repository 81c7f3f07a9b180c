"""The output layers: one for every task, in one array. They carry no gate: each is trained by its
task alone."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from hatjax.networks import rows
from hatjax.networks.layers import uniform
from hatjax.types import Array, Tree


class Head(nn.Module):
    """Features "b d" -> logits "b C" of the task's own output layer, -inf beyond its classes.

    `task` is a scalar, or "b": then every example has its own, and all heads are computed.
    """

    classes: tuple[int, ...]  # of every task
    tasks: int  # the rows of the parameters: len(classes), or 1 when given one task's row

    @nn.compact
    def __call__(self, z: Array, task: Array) -> Array:
        d, most = z.shape[-1], max(self.classes)
        kernel = self.param("kernel", uniform(d), (self.tasks, d, most))
        bias = self.param("bias", uniform(d), (self.tasks, most))
        if jnp.ndim(task) == 0:
            logits = z @ rows.pick(kernel, task) + rows.pick(bias, task)[None]
        else:
            every = jnp.einsum("bd,tdc->btc", z, kernel) + bias[None]
            logits = jnp.take_along_axis(every, task[:, None, None], axis=1)[:, 0]
        classes = jnp.broadcast_to(jnp.asarray(self.classes)[task], len(z))
        return jnp.where(jnp.arange(most)[None] < classes[:, None], logits, -jnp.inf)


def start(key: Array, d: int, classes: Sequence[int]) -> Tree:
    """The heads of all tasks before the first, for `d` features."""
    head = Head(tuple(classes), len(classes))
    return head.init(key, jnp.zeros((1, d)), 0)["params"]


def shapes(d: int, classes: Sequence[int]) -> Tree:
    """As `start`, shapes in place of arrays."""
    return jax.eval_shape(lambda key: start(key, d, classes), jax.random.key(0))


def logits(params: Tree, z: Array, task: Array, classes: Sequence[int]) -> Array:
    """The logits "b C" of features "b d", params["head"] being those of all tasks or one's row."""
    head = Head(tuple(classes), len(params["head"]["bias"]))
    return head.apply({"params": params["head"]}, z, task)
