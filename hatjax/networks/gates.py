"""The gates of HAT: an embedding for every task and unit, through a steep sigmoid (eq. 1)."""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax

from hatjax.networks import rows
from hatjax.types import Array, Tree


@jax.custom_jvp
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with a derivative that stays exact in float32 where x is large.

    The usual y (1 - y) is 0 once y rounds to 1, at x = 17: an open gate could then never close
    late in an epoch, while a closed one still opens. y(x) y(-x) is the same number on both sides.
    """
    return jax.nn.sigmoid(x)


@sigmoid.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = jax.nn.sigmoid(x)
    return y, y * jax.nn.sigmoid(-x) * dx


GRADIENT = {"paper": sigmoid, "code": jax.nn.sigmoid}  # config.fidelity -> the sigmoid of the gates


class Gates(nn.Module):
    """a_l = sigmoid(s e_l^t) for all layers (eq. 1); e is "T units" a layer."""

    units: Mapping[str, int]
    tasks: int
    start: Callable  # the initial embeddings
    sigmoid: Callable

    @nn.compact
    def __call__(self, task: Array, s: Array) -> dict[str, Array]:
        e = {
            layer: self.param(layer, self.start, (self.tasks, units))
            for layer, units in self.units.items()
        }
        return {layer: self.sigmoid(s * rows.pick(e[layer], task)) for layer in e}


def ungated(params: Tree, task: Array, s: Array) -> dict[str, Array]:
    """The gates of a network that has none."""
    return {}


INIT = {
    "normal": nn.initializers.normal(1.0),  # the paper's experiments
    "uniform": nn.initializers.uniform(2.0),  # U(0, 2): compression (paper section 4.4)
}
