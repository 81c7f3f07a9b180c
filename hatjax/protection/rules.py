"""Which gate lies on which axis of a parameter."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

Array = Any  # a jax.Array, or a NumPy array, a number or a tracer in its place
Tree = Any  # a pytree of arrays
# The gate on an axis; None; or, where a flatten joined units with positions, the two in their
# order, the slower first: ("c1", None).
Axis = str | None | tuple[str | None, ...]
Axes = Any  # a pytree like the network: for each parameter a tuple of Axis, or PER_TASK

# The rule of a parameter whose first axis is the task: its row t belongs to task t alone.
PER_TASK = "PER_TASK"


def axes(net: Tree, rules: Mapping[str, Sequence[Axis] | str]) -> Axes:
    """Say for each parameter of `net` which gates lie on its axes: a pytree like `net`.

    `rules` maps regular expressions to

        a tuple     for each axis the name of the gate of its units, or None:
                    {"fc2/kernel": ("fc1", "fc2"), "fc2/bias": ("fc2",)}
        PER_TASK    the first axis is the task: only the row of the task that learns moves

    An expression matches a parameter's whole path, its parts joined by "/"; the first that matches
    counts. Where a flatten joins units with positions, the axis is longer than its gate, and the
    units are the fastest part of it, as in flattened "h w c" images. Where they are the slowest, as
    in "c h w", write ("c1", None) for the axis in place of "c1".

    Raises ValueError, naming the path and the shape, for a parameter that no rule matches, for a
    rule of another length or without a gate, and for an axis that its gate cannot fit.
    """
    if not isinstance(rules, Mapping):
        raise ValueError(f"rules = {rules!r}: expected a dict, {{expression: rule}}")
    sizes: dict[str, int] = {}  # the shortest axis on which each gate lies
    leaves = jax.tree_util.tree_leaves_with_path(net)
    found = [(path(keys), jnp.shape(p)) for keys, p in leaves]
    matched = [
        _matched(name, _joined(keys), shape, rules)
        for (keys, _), (name, shape) in zip(leaves, found, strict=True)
    ]
    for (_, shape), rule in zip(found, matched, strict=True):
        for size, gate in zip(shape, map(gate_on, rule) if rule != PER_TASK else (), strict=False):
            if gate is not None:
                sizes[gate] = min(size, sizes.get(gate, size))
    for (name, shape), rule in zip(found, matched, strict=True):
        check_sizes(name, shape, rule, sizes, "the shortest axis with that gate has")
    return jax.tree.unflatten(jax.tree.structure(net), matched)


def path(keys: Sequence[Any]) -> str:
    """A parameter's path as the rules see it: "conv1/kernel" in a dict, "layers/0/weight" in a
    module of Equinox, "fc1/kernel" in a state of Flax nnx."""
    variable = len(keys) > 1 and isinstance(keys[-2], DictKey) and isinstance(keys[-1], GetAttrKey)
    if variable and keys[-1].name in ("value", "raw_value"):
        keys = keys[:-1]  # of a variable of nnx
    return _joined(keys)


def _joined(keys: Sequence[Any]) -> str:
    return "/".join(
        str(key.key) if isinstance(key, DictKey | FlattenedIndexKey)
        else str(key.idx) if isinstance(key, SequenceKey)
        else str(key.name) if isinstance(key, GetAttrKey)
        else str(key)
        for key in keys
    )  # fmt: skip


def gate_on(axis: Axis) -> str | None:
    """The name of the gate on an axis, if there is one."""
    if isinstance(axis, tuple):
        return next((part for part in axis if part is not None), None)
    return axis


def _matched(name: str, whole: str, shape: tuple[int, ...], rules: Mapping[str, Any]) -> Any:
    """The rule of a parameter; ValueError if there is none, or it cannot be its rule.

    `whole` is its path with all of its parts, which an expression may match, too: "value" is a
    variable of nnx, or a field of another module.
    """
    try:
        pattern = next((r for r in rules if any(re.fullmatch(r, n) for n in (name, whole))), None)
    except re.error as error:
        told = f"the rule {error.pattern!r} is no regular expression: {error}"
        raise ValueError(told) from error
    if pattern is None:
        raise ValueError(
            f"parameter {name} of shape {shape} matches no rule, so it would be trained "
            f"unprotected: add a rule with one gate name or None for each of its {len(shape)} "
            f"axes, or PER_TASK; the rules are {', '.join(map(repr, rules)) or 'none'}"
        )
    rule = rules[pattern]
    if isinstance(rule, str) and rule == PER_TASK:
        return PER_TASK
    good = isinstance(rule, tuple | list) and len(rule) == len(shape) and all(map(_is_axis, rule))
    if not good:
        raise ValueError(
            f"parameter {name} of shape {shape} has the rule {pattern!r}: {rule!r}: expected "
            f"PER_TASK, or a tuple with one gate name or None for each of its {len(shape)} axes"
        )
    if not any(map(gate_on, rule)):
        raise ValueError(
            f"parameter {name} of shape {shape} has no gate by the rule {pattern!r}: {rule!r}, so "
            "every task would change it: name the gate of its units, or make it PER_TASK"
        )
    return tuple(tuple(axis) if isinstance(axis, list) else axis for axis in rule)


def _is_axis(axis: Any) -> bool:
    if isinstance(axis, tuple | list):
        names = [part for part in axis if part is not None]
        return len(axis) == 2 and len(names) == 1 and isinstance(names[0], str)
    return axis is None or isinstance(axis, str)


def check_sizes(
    name: str, shape: tuple[int, ...], rule: Any, units: Mapping[str, int], what: str
) -> None:
    """ValueError if a gate of so many `units` does not fit an axis of the parameter."""
    for i, axis in enumerate(rule if rule != PER_TASK else ()):
        gate = gate_on(axis)
        if gate is not None and (units[gate] == 0 or shape[i] % units[gate]):
            raise ValueError(
                f"parameter {name} of shape {shape}: the gate {gate!r} does not fit its axis {i} "
                f"of {shape[i]}: {what} {units[gate]} units, expected a multiple of that"
            )


def with_rules(net: Tree, axes: Axes) -> list[tuple[Array, Any]]:
    """Each parameter with its rule."""
    found: list[tuple[Array, Any]] = []
    jax.tree.map(lambda p, rule: found.append((p, rule)), net, axes)
    return found
