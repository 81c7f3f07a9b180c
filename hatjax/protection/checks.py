"""Whether what the method is given fits together: parameters, gates, their past, the task."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hatjax.protection.rules import (
    PER_TASK,
    Array,
    Axes,
    Tree,
    check_sizes,
    gate_on,
    path,
    with_rules,
)


def check(net: Tree, axes: Axes, gates: Mapping[str, Array]) -> None:
    """Raise ValueError unless the embeddings `gates` {gate: "tasks units"} fit `axes`.

    Every gate that a parameter names must be there and fit its axis, every gate must lie on some
    parameter, and gates and what is PER_TASK must have a row for each task.
    """
    try:
        with_rules(net, axes)
    except ValueError as error:
        told = "axes: expected what hatjax.axes(net, rules) gives for this net"
        raise ValueError(told) from error
    named = set()
    for gate, e in gates.items():
        if jnp.ndim(e) != 2:
            raise ValueError(
                f"the gate {gate!r} is of shape {jnp.shape(e)}: expected [tasks, units], as "
                "hatjax.init_gates gives"
            )
    tasks = {len(e) for e in gates.values()}
    if len(tasks) > 1:
        raise ValueError(f"the gates are of {sorted(tasks)} tasks: expected one number of tasks")
    units = {gate: e.shape[1] for gate, e in gates.items()}

    def one(keys: Sequence[Any], p: Array, rule: Any) -> None:
        name, shape = path(keys), jnp.shape(p)
        if rule == PER_TASK:
            if not shape or (tasks and shape[0] not in tasks):
                raise ValueError(
                    f"parameter {name} of shape {shape} is PER_TASK: expected "
                    f"{max(tasks, default=1)} rows, one for each task, as the gates have"
                )
            return
        for gate in filter(None, map(gate_on, rule)):
            if gate not in gates:
                raise ValueError(
                    f"parameter {name} of shape {shape} has the axes {rule}: there is no gate "
                    f"{gate!r}; the gates are {', '.join(gates) or 'none'}"
                )
            named.add(gate)
        check_sizes(name, shape, rule, units, "it has")

    jax.tree_util.tree_map_with_path(one, net, axes)
    if unnamed := [gate for gate in gates if gate not in named]:
        raise ValueError(
            f"the gate {unnamed[0]!r} of {units[unnamed[0]]} units lies on no parameter: no rule "
            "names it, so what it closes would not be protected; name it in the rules of the "
            "weights into and out of its units"
        )


def check_past(past: Mapping[str, Array], gates: Mapping[str, Array]) -> None:
    """Raise ValueError unless the cumulative gates {gate: "units"} are of these embeddings."""
    for gate, e in gates.items():
        found = jnp.shape(past[gate]) if gate in past else "nothing"
        if found != e.shape[1:]:
            raise ValueError(
                f"past has {found} for the gate {gate!r}: expected {e.shape[1:]}, a number for "
                "each unit, as hatjax.no_past and hatjax.accumulate give"
            )


def check_parts(tree: Any, name: str) -> None:
    """ValueError, with its name, for parameters or gradients that are not {"net", "gates"}."""
    if not isinstance(tree, Mapping) or not tree.keys() >= {"net", "gates"}:
        given = sorted(map(str, tree)) if isinstance(tree, Mapping) else type(tree).__name__
        raise ValueError(
            f'{name}: expected {{"net": ..., "gates": {{gate: [tasks, units]}}}}, got {given}'
        )


def check_task(task: Array, e: Array) -> None:
    """ValueError unless `task` is a whole number of Python, NumPy or JAX that has a row in e.

    A traced task is not looked at, and a single row is that of the task.
    """
    if isinstance(task, jax.core.Tracer) or len(e) == 1:
        return
    if not 0 <= whole(task) < len(e):
        raise ValueError(f"task {task}: the embeddings have the tasks 0..{len(e) - 1}")


def whole(n: Any) -> int:
    """A whole number of Python, NumPy or JAX as an int; -1 for anything else."""
    try:
        return -1 if isinstance(n, bool) else operator.index(n)
    except TypeError:
        return -1
