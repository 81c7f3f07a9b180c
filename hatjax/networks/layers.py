"""Layers of the networks: linear ones, gates, norms, dropout, pooling."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from hatjax.protection import PER_TASK
from hatjax.types import Array

GROUP = 8  # a group norm has gcd(GROUP, units) groups: 4 for 20 units
CACHE = 2**20  # bytes of patches that a CPU computes at once (`of_patches`)
NORM_RULES = {r"norm_.*": PER_TASK}  # scale and bias of `normalised`: a norm belongs to a task


def uniform(fan_in: int | Array) -> Callable:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), how the published networks start all parameters."""
    bound = fan_in**-0.5
    return lambda key, shape, *_: jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def with_gradients(backward: Callable) -> Callable:
    """x W + b, "b ... i" -> "b ... o", with `backward` in place of JAX's own gradients.

    `backward` is given (x, W) and the gradient in the output, and returns those in x, W and b. Its
    products use the precision in force where the output is computed. That is passed along, since
    JAX traces `backward` later, outside of it.
    """

    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def function(precision: str | None, x: Array, w: Array, b: Array) -> Array:
        return x @ w + jnp.expand_dims(b, range(x.ndim - 1))

    def forward(precision: str | None, x: Array, w: Array, b: Array):
        return function(precision, x, w, b), (x, w)

    def precise(precision: str | None, inputs: tuple[Array, Array], g: Array):
        with jax.default_matmul_precision(precision):
            return backward(*inputs, g)

    function.defvjp(forward, precise)
    return lambda x, w, b: function(
        jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
        x, w, b,
    )  # fmt: skip


def gradients(x: Array, w: Array, g: Array) -> tuple[Array, Array, Array]:
    """The gradients of x W + b, of g "b ... o" in the output: JAX's own, but dW is x^T g.

    JAX's is (g^T x)^T, for which XLA writes a transposed g on the CPU: an eighth of a step of
    AlexNet.
    """
    dx = g @ w.T
    x, g = (v.reshape(-1, v.shape[-1]) for v in (x, g))
    return dx, x.T @ g, jnp.sum(g, axis=0)


def of_examples(size: Callable[[Array], Array]) -> Callable:
    """The gradient in x, and the sum over examples of the `size` of their gradients in W and b.

    `size` is the square or the absolute value, for which size(u v) = size(u) size(v). Of a loss
    that is a sum over examples k = 1..b, jax.grad then gives sum_k size(dloss_k / dW) in place of
    sum_k dloss_k / dW. Example k's gradient in W is x_k^T g_k, g_k being its gradient in the
    output; the size of each of its numbers is that of x_k times that of g_k, so the sum over the
    examples is one matrix product of the sizes. Where an example has several positions ("b p i", a
    convolution) its gradient is a sum over them, which is computed before its size is.
    """

    def backward(x: Array, w: Array, g: Array) -> tuple[Array, Array, Array]:
        dx = g @ w.T
        x, g = (v.reshape(len(v), -1, v.shape[-1]) for v in (x, g))  # "b p i", "b p o"
        if x.shape[1] == 1:
            dw = size(x[:, 0]).T @ size(g[:, 0])
        else:
            dw = jnp.sum(size(jnp.einsum("bpi,bpo->bio", x, g)), axis=0)
        return dx, dw, jnp.sum(size(jnp.sum(g, axis=1)), axis=0)

    return backward


affine = with_gradients(gradients)
affine_squares = with_gradients(of_examples(jnp.square))
affine_magnitudes = with_gradients(of_examples(jnp.abs))


class Dense(nn.Module):
    """x W + b, "b i" -> "b units", started as in the published networks."""

    units: int
    affine: Callable = affine  # or affine_squares, affine_magnitudes

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = uniform(x.shape[-1])
        w = self.param("kernel", init, (x.shape[-1], self.units))
        b = self.param("bias", init, (self.units,))
        return self.affine(x, w, b)


class Conv(nn.Module):
    """A convolution, "b h w i" -> "b h' w' units", h' = (h + 2 padding - k) // stride + 1."""

    units: int
    size: int  # k, of the kernel "k k i units"
    padding: int = 0  # zeros on each side
    stride: int = 1
    bias: bool = True
    start: Callable | None = None  # of the kernel; None: as in the published networks
    affine: Callable = affine
    form: str = "patches"  # or "native"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, i = self.size, x.shape[-1]
        published = uniform(k * k * i)
        w = self.param("kernel", self.start or published, (k, k, i, self.units))
        b = self.param("bias", published, (self.units,)) if self.bias else jnp.zeros(self.units)
        around = ((0, 0), (self.padding, self.padding), (self.padding, self.padding), (0, 0))
        if self.form == "native" and self.affine is affine:  # squares of examples need patches
            strides = (self.stride, self.stride)
            order = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(x, w, strides, around[1:3], dimension_numbers=order)
            return y + b[None, None, None]
        x = jnp.pad(x, around) if self.padding else x
        return of_patches(x, w.reshape(k * k * i, self.units), b, k, self.stride, self.affine)


def convolution(form: str, replicas: int) -> str:
    """How a program of so many replicas computes convolutions: "native" or "patches".

    `form` is config.network.conv: either of them, or "auto", XLA's own convolution for a single
    replica on an accelerator, and the product of patches with the kernel elsewhere. XLA's own is
    ten times slower inside a loop on the CPU (on one thread, unvectorised), and under vmap over
    replicas it becomes a grouped convolution; a product becomes a batched product. (On an H200,
    AlexNet of half the width: 1 replica 0.43 ms a step native, 0.47 as patches; 12 replicas 2.37
    and 1.45.) Both are the same numbers to rounding.
    """
    if form != "auto":
        return form
    return "native" if replicas == 1 and jax.default_backend() != "cpu" else "patches"


def patches(x: Array, k: int, stride: int = 1) -> Array:
    """The k x k patches of "b h w i", a row each: "b (h-k)//stride+1 (w-k)//stride+1 kki".

    A convolution without padding is the product of the patches with its kernel.
    """
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    shifted = [
        x[:, r : r + height : stride, c : c + width : stride] for r in range(k) for c in range(k)
    ]
    return jnp.concatenate(shifted, axis=-1) if k > 1 else shifted[0]


def of_patches(
    x: Array, w: Array, b: Array, k: int, stride: int = 1, affine: Callable = affine
) -> Array:
    """The patches of "b h w i", times W "kki o", plus b "o"; on a CPU of a few images at a time.

    Patches that overlap are up to k k times as large as the images, and a CPU takes longer to write
    and read those of a batch than to multiply them. Those of a few images stay in its cache, and
    are computed again for the gradients instead of being kept.
    """

    def product(x: Array) -> Array:
        return affine(patches(x, k, stride), w, b)

    one = jax.eval_shape(functools.partial(patches, k=k, stride=stride), x[:1])
    n = max(1, CACHE // (one.size * one.dtype.itemsize))
    if n >= len(x) or k <= stride or jax.default_backend() != "cpu":
        return product(x)
    more = -len(x) % n
    some = jnp.pad(x, ((0, more), (0, 0), (0, 0), (0, 0))).reshape(-1, n, *x.shape[1:])
    y = lax.map(jax.checkpoint(product, prevent_cse=False), some)
    return y.reshape(-1, *y.shape[2:])[: len(x)]


def gate(h: Array, gates: dict[str, Array], name: str) -> Array:
    """h "... units" times the gate "units" of that name."""
    return h * jnp.expand_dims(gates[name], range(h.ndim - 1))


def normalised(
    h: Array, kind: str, gates: dict[str, Array], of: str, train: bool, name: str = ""
) -> Array:
    """h "b ... units" after a norm. The gate of its units is `of`.

    `kind` is "none", "batch", "layer" or "group".

    The result is not gated: the caller has to multiply it by the gate, since the bias of a norm
    makes closed units other than 0. Layer and group norms take statistics over units, so h is
    multiplied by the gate before them, too; the statistics of a task then do not depend on units
    that are closed for it and that later tasks change. Call it in a compact method; the norm's name
    there is norm_NAME, or norm_OF without `name`.
    """
    called = f"norm_{name or of}"
    if kind == "none":
        return h
    if kind == "batch":
        return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=called)(h)
    h = gate(h, gates, of)
    if kind == "layer":
        return nn.LayerNorm(name=called)(h)
    return nn.GroupNorm(num_groups=math.gcd(GROUP, h.shape[-1]), name=called)(h)


@contextmanager
def real_examples(weight: Array) -> Iterator[None]:
    """Within it, batch norms take their statistics over the examples of weight 1 in "b" alone.

    For any module with flax.linen's BatchNorm: what pads the last batch must not count.
    """

    def masked(call, args, kwargs, context):
        module = context.module
        if isinstance(module, nn.BatchNorm) and context.method_name == "__call__":
            x = args[0] if args else kwargs["x"]
            if kwargs.get("mask") is None and len(x) % len(weight) == 0:
                real = jnp.repeat(weight > 0, len(x) // len(weight))
                kwargs = kwargs | {"mask": real.reshape(-1, *[1] * (x.ndim - 1))}
        return call(*args, **kwargs)

    with nn.intercept_methods(masked):
        yield


class Dropout(nn.Module):
    """Zero units with probability `rate`, scale the others; without a "dropout" key do nothing.

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
        bits = lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size]
        return jnp.where(bits.reshape(x.shape) >= dropped, x * (256 / (256 - dropped)), 0)


@jax.custom_vjp
def pool(x: Array) -> Array:
    """The maximum of each 2x2 block, "b h w c" -> "b h//2 w//2 c"; odd remainders are dropped.

    Of equal numbers the first has the gradient, as in PyTorch; JAX's own would share it.
    """
    return _blocks(x).max(axis=(2, 4))


def _blocks(x: Array) -> Array:
    """The 2x2 blocks of "b h w c" in their places, "b h//2 2 w//2 2 c"."""
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c)


def _numbers() -> Array:
    """The numbers 0..3 of a block's positions, row by row, in bytes: they are quickly read."""
    return jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)


def _pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    blocks, y = _blocks(x), pool(x)
    at_largest = blocks == jnp.expand_dims(y, (2, 4))
    which = jnp.where(at_largest, _numbers(), jnp.uint8(4)).min(axis=(2, 4))
    return y, (which, jnp.zeros((0, *x.shape[1:])))  # which is empty, for its shape


def _pool_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array]:
    which, like = kept
    (b, height, width, c), (_, h, w, _) = g.shape, like.shape
    at = jnp.expand_dims(which, (2, 4)) == _numbers()
    spread = jnp.where(at, jnp.expand_dims(g, (2, 4)), 0)
    around = ((0, 0), (0, h - 2 * height), (0, w - 2 * width), (0, 0))
    return (jnp.pad(spread.reshape(b, 2 * height, 2 * width, c), around),)


pool.defvjp(_pool_forward, _pool_backward)
