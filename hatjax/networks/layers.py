"""Layers whose parameters say which gates lie on their axes."""

from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from hatjax.types import Array


class Gated(flax.struct.PyTreeNode, nn.meta.AxisMetadata):
    """A parameter together with the name of the gate on each of its axes (None: no gate).

    A box of our own, since Flax's partitioning boxes would be read as sharding.
    """

    value: Any
    axes: tuple[str | None, ...] = flax.struct.field(pytree_node=False)

    def unbox(self) -> Any:
        return self.value

    def replace_boxed(self, val: Any) -> "Gated":
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict) -> "Gated":
        return self.replace(axes=(*self.axes[:index], None, *self.axes[index:]))

    def remove_axis(self, index: int, params: dict) -> "Gated":
        return self.replace(axes=self.axes[:index] + self.axes[index + 1 :])


def uniform(fan_in: int | Array) -> Callable:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), how the published networks start all parameters."""
    bound = fan_in**-0.5
    return lambda key, shape, *_: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def gated(init: Callable, *axes: str | None) -> Callable:
    """An initialiser that boxes what `init` makes with the gates on its axes."""
    return lambda *args: Gated(init(*args), axes)


def affine(x: Array, w: Array, b: Array) -> Array:
    """x W + b, "b ... i" -> "b ... o"."""
    return x @ w + jnp.expand_dims(b, range(x.ndim - 1))


@jax.custom_vjp
def affine_squares(x: Array, w: Array, b: Array) -> Array:
    """affine, whose gradient in W and b is the sum over the examples of their squared gradients.

    For a loss that is a sum over the examples. Example k's gradient in W is x_k^T g_k, where g_k is
    that in its output; its square is that of x times that of g, and the sum one matrix product.
    Only where an example has several positions ("b p i", a convolution) are its gradients formed.
    """
    return affine(x, w, b)


def _squares(inputs: tuple[Array, Array], g: Array) -> tuple[Array, Array, Array]:
    x, w = inputs
    dx = g @ w.T
    x, g = (v.reshape(len(v), -1, v.shape[-1]) for v in (x, g))  # "b p i", "b p o"
    if x.shape[1] == 1:
        dw = jnp.square(x[:, 0]).T @ jnp.square(g[:, 0])
    else:
        dw = jnp.sum(jnp.square(jnp.einsum("bpi,bpo->bio", x, g)), axis=0)
    return dx, dw, jnp.sum(jnp.square(jnp.sum(g, axis=1)), axis=0)


affine_squares.defvjp(lambda x, w, b: (affine(x, w, b), (x, w)), _squares)


class Dense(nn.Module):
    """x W + b, "b i" -> "b units"; `source` is the gate on the inputs, `gate` on the outputs."""

    units: int
    gate: str
    source: str | None = None
    affine: Callable = affine  # or affine_squares

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = uniform(x.shape[-1])
        w = self.param("kernel", gated(init, self.source, self.gate), (x.shape[-1], self.units))
        b = self.param("bias", gated(init, self.gate), (self.units,))
        return self.affine(x, w, b)


def gate(h: Array, gates: dict[str, Array], layer: str) -> Array:
    """h "... units" times the layer's gate "units"; h itself in a network without gates."""
    return h * jnp.expand_dims(gates[layer], range(h.ndim - 1)) if layer in gates else h


class Dropout(nn.Module):
    """Zero units with probability `rate`, scale the others; nothing without a "dropout" stream.

    Random bits are a large part of a step on the CPU, so a unit gets 8 of them: `rate` is rounded
    to a multiple of 1/256, and the scale is exact for the rounded rate.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dropped = round(self.rate * 256)
        if not self.has_rng("dropout") or dropped == 0:
            return x
        words = jax.random.bits(self.make_rng("dropout"), (-(-x.size // 4),), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size]
        return jnp.where(bits.reshape(x.shape) >= dropped, x * (256 / (256 - dropped)), 0)


class Conv(nn.Module):
    """A convolution without padding, "b h w i" -> "b h-k+1 w-k+1 units"; gates as in Dense."""

    units: int
    size: int  # k, of the kernel "k k i units"
    gate: str
    source: str | None = None
    affine: Callable = affine

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, i = self.size, x.shape[-1]
        init = uniform(k * k * i)
        w = self.param(
            "kernel", gated(init, None, None, self.source, self.gate), (k, k, i, self.units)
        )
        b = self.param("bias", gated(init, self.gate), (self.units,))
        return self.affine(patches(x, k), w.reshape(k * k * i, self.units), b)


def patches(x: Array, k: int) -> Array:
    """The k x k patches of "b h w i", a row each: "b h-k+1 w-k+1 kki".

    A convolution without padding is their product with its kernel. XLA's own convolution is ten
    times slower inside a loop on the CPU (it runs there on one thread, unvectorised), and becomes a
    grouped one, slow everywhere, when replicas are vmapped; this becomes a batched product.
    """
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    shifted = [x[:, r : r + height, c : c + width] for r in range(k) for c in range(k)]
    return jnp.concatenate(shifted, axis=-1)


def pool(x: Array) -> Array:
    """The maximum of each 2x2 block, "b h w c" -> "b h//2 w//2 c"; odd remainders are dropped."""
    b, h, w, c = x.shape
    even = x[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
