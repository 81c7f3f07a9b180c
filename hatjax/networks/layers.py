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


class Dense(nn.Module):
    """x W + b, "b i" -> "b units"; `source` is the gate on the inputs, `gate` on the outputs."""

    units: int
    gate: str
    source: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = uniform(x.shape[-1])
        w = self.param("kernel", gated(init, self.source, self.gate), (x.shape[-1], self.units))
        b = self.param("bias", gated(init, self.gate), (self.units,))
        return x @ w + b[None]


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

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, i = self.size, x.shape[-1]
        init = uniform(k * k * i)
        w = self.param(
            "kernel", gated(init, None, None, self.source, self.gate), (k, k, i, self.units)
        )
        b = self.param("bias", gated(init, self.gate), (self.units,))
        return convolve(x, w) + b[None, None, None]


def convolve(x: Array, w: Array) -> Array:
    """The convolution of "b h w i" with "k k i o", without padding, as one matrix product.

    The one place that decides how: every patch becomes a row. XLA's own convolution is ten times
    slower inside a loop on the CPU (it runs there on one thread, unvectorised), and becomes a
    grouped one, slow everywhere, when replicas are vmapped; this becomes a batched product.
    """
    k, _, i, o = w.shape
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    shifted = [x[:, r : r + height, c : c + width] for r in range(k) for c in range(k)]
    return jnp.concatenate(shifted, axis=-1) @ w.reshape(k * k * i, o)


def pool(x: Array) -> Array:
    """The maximum of each 2x2 block, "b h w c" -> "b h//2 w//2 c"; odd remainders are dropped."""
    b, h, w, c = x.shape
    even = x[:, : h // 2 * 2, : w // 2 * 2]
    return even.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
