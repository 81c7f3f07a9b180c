"""How far a parameter may move, and an optimizer that moves it no farther."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hatjax.protection.rules import PER_TASK, Array, Axes, Axis, Tree, gate_on


def on_axis(gate: Array, axis: Axis, i: int, shape: tuple[int, ...]) -> Array:
    """The numbers of a gate "units" laid along axis `i` of a weight: 1 but for shape[i] there."""
    times = shape[i] // len(gate)
    slowest = isinstance(axis, tuple) and axis[0] is not None
    along = jnp.repeat(gate, times) if slowest else jnp.tile(gate, times)
    return along.reshape([-1 if k == i else 1 for k in range(len(shape))])


def across(
    combine: Callable[[Array, Array], Array],
    numbers: Mapping[str, Array],
    rule: Sequence[Axis],
    shape: tuple[int, ...],
) -> Array:
    """One number for every weight from those of the units on its axes, {gate: "units"}.

    `combine` makes one of two, as jnp.minimum does. A bias or a weight of the first layer has one
    gate. Returns an array that broadcasts to `shape`.
    """
    gates = [(i, axis, gate_on(axis)) for i, axis in enumerate(rule)]
    laid = [on_axis(numbers[g], axis, i, shape) for i, axis, g in gates if g is not None]
    return functools.reduce(combine, laid)


def free(past: Mapping[str, Array], rule: Sequence[Axis], shape: tuple[int, ...]) -> Array:
    """How free the past leaves a weight: 1 - min(a^{<=t}_i, a^{<=t}_j) over the gates on its axes.

    A weight between two units is held as far as both are (eq. 2); a bias or a weight of the first
    layer has one gate. Returns an array that broadcasts to `shape`, so that no mask as large as the
    weight need be stored. It is computed as max(1 - a_i, 1 - a_j), the same number, so that the
    subtractions are on vectors.
    """
    on_rule = {g: 1 - past[g] for g in map(gate_on, rule) if g is not None}
    return across(jnp.maximum, on_rule, rule, shape)


def row(task: Array, p: Array) -> Array:
    """1 for the row of `task` in p "T ...", 0 for the others: "T 1 ...", which broadcasts to p.

    Where p has a single row, it is that of the task: 1.
    """
    if p.shape[0] == 1:
        return jnp.ones((1,) * p.ndim)
    mine = jnp.arange(p.shape[0]) == task
    return mine.astype(jnp.float32).reshape(-1, *[1] * (p.ndim - 1))


def shares(past: Mapping[str, Array], task: Array, axes: Axes, net: Tree) -> Tree:
    """How far each parameter of `net` may move while `task` learns, 0..1, a tree like `net`.

    `free` for a parameter that tasks share, `row` for one that is PER_TASK. The arrays broadcast to
    the parameters.
    """
    return jax.tree.map(
        lambda p, rule: row(task, p) if rule == PER_TASK else free(past, rule, p.shape), net, axes
    )


def protect(
    inner: optax.GradientTransformation, clip: Array | None = None, overflow: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """The optimizer `inner`, which moves every parameter only as far as it is free.

    `update` takes one more argument, free=f: f(after) gives a tree like the parameters, of numbers
    0..1 that broadcast to them, as `shares` does. A gradient g becomes an update in three steps:

    1. g is scaled to a global norm of at most `clip`, measured on g f; where that norm is not
       finite (it overflows from about 1e19 on), g becomes `overflow`: 0, as if there were none, or
       NaN, so that the failure is seen;
    2. `inner` is given g where f > 0 and 0 elsewhere, so that its moments know nothing of a weight
       that is held;
    3. the update u that it returns is multiplied by f, and is 0 where f is 0, so that nothing moves
       what is held: neither moments nor weight decay, nor an update that is not a number.

    With plain SGD that is -lr g f, the step of the paper. The state is that of `inner`.

    f is called once for every use. Where its result is large, let it depend on the array `after`,
    by lax.optimization_barrier: the compiler then computes it twice, within the loops that use it,
    and stores no mask of every weight.
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        grads: Tree,
        state: Tree,
        params: Tree = None,
        *,
        free: Callable[[Array], Tree],
        **extra: Any,
    ) -> tuple[Tree, Tree]:
        scale: Array = jnp.float32(1)
        if clip is not None:
            norm = global_norm(jax.tree.map(_times, grads, free(scale)))
            scale = jnp.minimum(1, clip / jnp.maximum(norm, 1e-30))
            scale = jnp.where(jnp.isfinite(norm), scale, jnp.nan)
        share = free(scale)

        def given(g: Array, f: Array) -> Array:
            g = jnp.where(jnp.isnan(scale), jnp.asarray(overflow, g.dtype), _times(g, scale))
            return _where_free(g, f)

        seen = jax.tree.map(given, grads, share)
        updates, state = inner.update(seen, state, params, **extra)
        return jax.tree.map(lambda u, f: _where_free(_times(u, f), f), updates, share), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _times(x: Array, factor: Array) -> Array:
    """x times a factor, in the precision of x."""
    return x * jnp.asarray(factor, x.dtype)


def _where_free(x: Array, f: Array) -> Array:
    """x where f > 0, else 0, whatever x is there."""
    return jnp.where(f > 0, x, jnp.zeros((), x.dtype))


def _square(x: Array) -> Array:
    """|x|^2 in float32, of real and complex numbers."""
    if jnp.iscomplexobj(x):
        return _square(jnp.real(x)) + _square(jnp.imag(x))
    return jnp.square(x.astype(jnp.float32))


def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all numbers of a tree, float32[]."""
    # First the sum of each row, then that of the rows, with a barrier between: the compiler then
    # reads memory in order. For one sum over both axes it would read a matrix in small tiles.
    rows = [
        jnp.sum(_square(jnp.atleast_1d(x)), axis=-1)
        for x in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(jnp.sum(r) for r in lax.optimization_barrier(rows)))
