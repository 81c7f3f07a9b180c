"""HAT's changes to the gradient, one Optax transform per equation.

Stated once, the order of a HAT step: protect the past, compensate the gates, clip, descend, keep
the embeddings in range. What changes from step to step reaches a transform as the extra arguments
`memory` (of the approach) and `step` (types.Step). Updates are shaped like the parameters:
{"trunk", "gates", "head"}.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hatjax.types import Array, Step, Tree

Transform: TypeAlias = optax.GradientTransformationExtraArgs


def stateless(update: Callable[..., Tree]) -> Transform:
    """An Optax transform from `update(updates, params, memory, step) -> updates`."""

    def wrapped(updates, state, params=None, *, memory, step, **_):
        return update(updates, params, memory, step), state

    return Transform(lambda _: optax.EmptyState(), wrapped)


def on_axis(gate: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """A gate laid along one axis of a weight, tiled where a flatten repeats a channel's gate."""
    along = jnp.tile(gate, shape[axis] // len(gate))
    return along.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def free(past: dict[str, Array], axes: tuple[str | None, ...], shape: tuple[int, ...]) -> Array:
    """How free the past leaves a weight: 1 - min(a^{<=t}_i, a^{<=t}_j) over the gates on its axes.

    A weight between two units is held as far as both are (eq. 2); a bias or first-layer weight has
    one gate. Returns an array that broadcasts to `shape`, so that the mask need not be stored,
    computed as max(1 - a_i, 1 - a_j): the same number, with the subtractions on vectors.
    """
    gates = [on_axis(1 - past[g], i, shape) for i, g in enumerate(axes) if g is not None]
    return functools.reduce(jnp.maximum, gates)


def held(gates: dict[str, Array], trunk: Tree, axes: Tree) -> tuple[Tree, Array]:
    """The share of the trunk that `gates` hold, mean of min(a_i, a_j): by parameter, over all."""

    def share(p: Array, names: tuple[str | None, ...]) -> Array:
        return 1 - jnp.mean(jnp.broadcast_to(free(gates, names, p.shape), p.shape))

    shares = jax.tree.map(share, trunk, axes)
    sizes = [p.size for p in jax.tree.leaves(trunk)]
    total = sum(n * h for n, h in zip(sizes, jax.tree.leaves(shares), strict=True))
    return shares, total / sum(sizes)


def protect(axes: Tree) -> Transform:
    """g' = [1 - min(a^{<=t}_i, a^{<=t}_j)] g for all trunk parameters (eq. 2).

    `axes` is Network.axes; memory["past"] is {layer: "units"}, the cumulative gates a^{<=t}.
    """

    def update(updates, params, memory, step):
        # Tied to the step, the gates look new to the compiler in every one. Else it would compute
        # all masks before the loop and keep them, a second set of weights to read at each step.
        past, _ = lax.optimization_barrier((memory["past"], step.progress))
        trunk = jax.tree.map(
            lambda g, names: g * free(past, names, g.shape), updates["trunk"], axes
        )
        return updates | {"trunk": trunk}

    return stateless(update)


def compensate() -> Transform:
    """q' = q s_max [cosh(s e) + 1] / (s [cosh(e) + 1]), |s e| clipped at 50 (paper section 2.4).

    Undoes what annealing s does to the gradient q of the embeddings, so that they move at any s.
    """

    def update(updates, params, memory, step):
        s_max, bound = step.hyper["s_max"], step.hyper["cosh_max"]
        s = anneal(step.progress, s_max)

        def q(g: Array, e: Array) -> Array:
            steep = jnp.cosh(jnp.clip(s * e, -bound, bound)) + 1
            return g * (s_max / s) * steep / (jnp.cosh(e) + 1)

        return updates | {"gates": jax.tree.map(q, updates["gates"], params["gates"])}

    return stateless(update)


def anneal(progress: Array, s_max: Array) -> Array:
    """s = 1/s_max + (s_max - 1/s_max) progress (eq. 3): nearly flat gates first, hard ones last."""
    return 1 / s_max + (s_max - 1 / s_max) * progress


def clip(*before: Transform) -> Transform:
    """The transforms `before`, then g min(1, limit / |g|): a global norm of at most hyper["clip"].

    They are evaluated twice, for the norm and for the result: being element-wise, they fuse into
    both, while a masked copy of every gradient would have to go through memory.
    """
    first = optax.chain(optax.identity(), *before)

    def update(updates, params, memory, step):
        def changed(step: Step) -> Tree:
            state = first.init(params)
            return first.update(updates, state, params, memory=memory, step=step)[0]

        norm = global_norm(changed(step))
        # Tied to the norm, the second evaluation is not merged with the first.
        later, norm = lax.optimization_barrier((step.progress, norm))
        scale = jnp.minimum(1, step.hyper["clip"] / jnp.maximum(norm, 1e-30))
        return jax.tree.map(lambda g: g * scale, changed(step._replace(progress=later)))

    return stateless(update)


def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all numbers of a tree."""
    # Row by row, behind a barrier: what makes the rows fuses into their sums, and memory is read in
    # order. As one sum over both axes the compiler would walk through it in small tiles.
    rows = [jnp.sum(jnp.square(x), axis=-1) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(jnp.sum(r) for r in lax.optimization_barrier(rows)))


def descend() -> Transform:
    """Plain SGD, updates -lr g, with the rate of the schedule (step.lr)."""
    return stateless(lambda g, params, memory, step: jax.tree.map(lambda g: -step.lr * g, g))


def keep_embeddings() -> Transform:
    """|e| <= step.hyper["e_max"] after the step (6 in the paper): a gate can always move again."""

    def update(updates, params, memory, step):
        bound = step.hyper["e_max"]

        def keep(u: Array, e: Array) -> Array:
            return jnp.clip(e + u, -bound, bound) - e

        return updates | {"gates": jax.tree.map(keep, updates["gates"], params["gates"])}

    return stateless(update)
