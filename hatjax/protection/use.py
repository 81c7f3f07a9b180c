"""How much of a network tasks use, and what they share."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hatjax.protection.moving import free
from hatjax.protection.rules import PER_TASK, Array, Axes, Tree, gate_on, with_rules


def used(past: Mapping[str, Array], axes: Axes, net: Tree) -> dict[str, dict[str, Array]]:
    """The share of the network that tasks with the cumulative gates `past` use, 0..1.

    Returns {gate: {"units": u, "weights": w}, ..., "all": {"units": u, "weights": w}}. u is the
    mean of a^{<=t} over the units of the gate. w is the mean of min(a^{<=t}_i, a^{<=t}_j), how far
    eq. 2 holds a weight, over all weights and biases on which the gate lies; one between two gates
    counts for both. "all" is over all gates and over all parameters but the PER_TASK ones. Given
    the gates of one task in place of the past, it is the share that this task uses.
    """
    leaves = [(p.shape, rule) for p, rule in with_rules(net, axes) if rule != PER_TASK]
    held = [(*_held(past, rule, shape), set(map(gate_on, rule))) for shape, rule in leaves]

    def mean(gate: str | None) -> Array:
        some = [(n, total) for n, total, names in held if gate is None or gate in names]
        return sum(t for _, t in some) / max(1, sum(n for n, _ in some))

    each = {g: {"units": jnp.mean(a), "weights": mean(g)} for g, a in past.items()}
    units = jnp.concatenate([jnp.ravel(a) for a in past.values()]) if past else jnp.zeros(1)
    return each | {"all": {"units": jnp.mean(units), "weights": mean(None)}}


def held(a: Mapping[str, Array], axes: Axes, net: Tree) -> Array:
    """The share of the weights that the gates `a` hold: what `used` calls weights of "all"."""
    leaves = [(p.shape, rule) for p, rule in with_rules(net, axes) if rule != PER_TASK]
    each = [_held(a, rule, shape) for shape, rule in leaves]
    return sum(total for _, total in each) / max(1, sum(n for n, _ in each))


def overlap(a: Sequence[Mapping[str, Array]], axes: Axes, net: Tree) -> Array:
    """The share of task i's weights that task j uses too, [i, j] in "T T" (the paper's Fig. 6).

    `a` are the gates of each task, {gate: "units"}. How far a task uses a weight is min(a_i, a_j)
    over the units on its axes. The row of a task that uses nothing is 0.
    """
    common = jax.jit(lambda a, b: held(jax.tree.map(jnp.minimum, a, b), axes, net))
    shared = jnp.stack([jnp.stack([common(dict(b), dict(c)) for c in a]) for b in a])
    own = jnp.diag(shared)[:, None]
    return jnp.where(own > 0, shared / jnp.where(own > 0, own, 1), 0)


def _held(a: Mapping[str, Array], rule: Any, shape: tuple[int, ...]) -> tuple[int, Array]:
    """How many numbers a parameter has, and how many of them the gates hold."""
    kept = jnp.broadcast_to(1 - free(a, rule, shape), shape)
    return kept.size, jnp.sum(kept)
