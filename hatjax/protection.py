"""Which gates lie on the axes of a network's parameters, and what follows from that (HAT, eq. 2).

Nothing here knows layers. A network is a pytree of arrays, and `axes` says of each of its
parameters which gate lies on which axis. How far a parameter may still move, the share of the
weights that is used and what tasks share are computed from that alone, for any network of any
library. The only imports are jax, numpy and optax.

Letters as in the paper: a gates of units, 0..1; past the cumulative gates a^{<=t}, {gate: "units"}.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

Array = Any  # a jax.Array, or a NumPy array, a number or a tracer in its place
Tree = Any  # a pytree of arrays
Axis = str | None | tuple[str | None, ...]  # a gate, none, or how a flatten has composed the axis
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
    sizes: dict[str, int] = {}  # the shortest axis on which each gate lies
    found = [(path(keys), jnp.shape(p)) for keys, p in jax.tree_util.tree_leaves_with_path(net)]
    matched = [_matched(name, shape, rules) for name, shape in found]
    for (_, shape), rule in zip(found, matched, strict=True):
        for size, gate in zip(shape, map(gate_on, rule) if rule != PER_TASK else (), strict=False):
            if gate is not None:
                sizes[gate] = min(size, sizes.get(gate, size))
    for (name, shape), rule in zip(found, matched, strict=True):
        _check_sizes(name, shape, rule, sizes, "the shortest axis with that gate has")
    return jax.tree.unflatten(jax.tree.structure(net), matched)


def path(keys: Sequence[Any]) -> str:
    """A parameter's path as the rules see it: "conv1/kernel" in a dict, "layers/0/weight" in a
    module of Equinox, "fc1/kernel" in a state of Flax nnx."""
    if keys and isinstance(keys[-1], GetAttrKey) and keys[-1].name in ("value", "raw_value"):
        keys = keys[:-1]  # of a variable of nnx
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


def _matched(name: str, shape: tuple[int, ...], rules: Mapping[str, Any]) -> Any:
    """The rule of a parameter; ValueError if there is none, or it cannot be its rule."""
    pattern = next((pattern for pattern in rules if re.fullmatch(pattern, name)), None)
    if pattern is None:
        raise ValueError(
            f"parameter {name} of shape {shape} matches no rule, so it would be trained "
            f"unprotected: add a rule with one gate name or None for each of its {len(shape)} "
            f"axes, or PER_TASK; the rules are {', '.join(map(repr, rules)) or 'none'}"
        )
    rule = rules[pattern]
    if isinstance(rule, str) and rule == PER_TASK:
        if not shape:
            raise ValueError(
                f"parameter {name} of shape () is PER_TASK by the rule {pattern!r}: expected its "
                "first axis to be the task"
            )
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


def _check_sizes(
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


def check(net: Tree, axes: Axes, gates: Mapping[str, Array]) -> None:
    """Raise ValueError unless the embeddings `gates` {gate: "tasks units"} fit `axes`.

    Every gate that a parameter names must be there and fit its axis, every gate must lie on some
    parameter, and what is PER_TASK must have a row for each task.
    """
    named = set()
    tasks = {len(e) for e in gates.values()}
    units = {gate: e.shape[1] for gate, e in gates.items()}

    def one(keys: Sequence[Any], p: Array, rule: Any) -> None:
        name, shape = path(keys), jnp.shape(p)
        if rule == PER_TASK:
            if tasks and shape[0] not in tasks:
                raise ValueError(
                    f"parameter {name} of shape {shape} is PER_TASK: expected {max(tasks)} rows, "
                    "one for each task, as the gates have"
                )
            return
        for gate in filter(None, map(gate_on, rule)):
            if gate not in gates:
                raise ValueError(
                    f"parameter {name} of shape {shape} has the axes {rule}: there is no gate "
                    f"{gate!r}; the gates are {', '.join(gates) or 'none'}"
                )
            named.add(gate)
        _check_sizes(name, shape, rule, units, "it has")

    jax.tree_util.tree_map_with_path(one, net, axes)
    if unnamed := [gate for gate in gates if gate not in named]:
        raise ValueError(
            f"the gate {unnamed[0]!r} of {units[unnamed[0]]} units lies on no parameter: no rule "
            "names it, so what it closes would not be protected; name it in the rules of the "
            "weights into and out of its units"
        )


def on_axis(gate: Array, axis: Axis, i: int, shape: tuple[int, ...]) -> Array:
    """The numbers of a gate "units" laid along axis `i` of a weight: 1 but for shape[i] there."""
    times = shape[i] // len(gate)
    slowest = isinstance(axis, tuple) and axis[0] is not None
    along = jnp.repeat(gate, times) if slowest else jnp.tile(gate, times)
    return along.reshape([-1 if k == i else 1 for k in range(len(shape))])


def free(past: Mapping[str, Array], rule: Sequence[Axis], shape: tuple[int, ...]) -> Array:
    """How free the past leaves a weight: 1 - min(a^{<=t}_i, a^{<=t}_j) over the gates on its axes.

    A weight between two units is held as far as both are (eq. 2); a bias or first-layer weight has
    one gate. Returns an array that broadcasts to `shape`, so that the mask need not be stored,
    computed as max(1 - a_i, 1 - a_j): the same number, with the subtractions on vectors.
    """
    gates = [(i, axis, gate_on(axis)) for i, axis in enumerate(rule)]
    factors = [on_axis(1 - past[g], axis, i, shape) for i, axis, g in gates if g is not None]
    return functools.reduce(jnp.maximum, factors)


def row(task: Array, p: Array) -> Array:
    """1 for the row of `task` of "T ...", 0 for the others; broadcasts. A single row is its own."""
    if p.shape[0] == 1:
        return jnp.ones((1,) * p.ndim)
    mine = jnp.arange(p.shape[0]) == task
    return mine.astype(jnp.float32).reshape(-1, *[1] * (p.ndim - 1))


def shares(past: Mapping[str, Array], task: Array, axes: Axes, net: Tree) -> Tree:
    """How far each parameter of `net` may move while `task` learns, 0..1, a tree like `net`.

    `free` of those that tasks share, and the row of the task of what is PER_TASK. The arrays
    broadcast to the parameters.
    """
    return jax.tree.map(
        lambda p, rule: row(task, p) if rule == PER_TASK else free(past, rule, p.shape), net, axes
    )


def protect(
    inner: optax.GradientTransformation, clip: Array | None = None
) -> optax.GradientTransformationExtraArgs:
    """The optimizer `inner`, which moves every parameter only as far as it is free.

    `update` takes one more argument, free=f: f(after) gives a tree like the parameters of numbers
    0..1 that broadcast to them, say `shares`. With u what `inner` makes of a gradient g:

    1. g is scaled to a global norm of at most `clip`, measured on g f;
    2. `inner` sees g where f > 0 and 0 elsewhere: what is held enters no moments and no norms;
    3. its update u becomes u f, which neither moments nor weight decay can go around.

    With plain SGD that is -lr g f, the step of the paper. The state is that of `inner`.

    f is called again for every use and is to depend on the array `after` (lax.optimization_barrier)
    where its result is large: the compiler then computes it in passing, twice, rather than storing
    a mask of every weight.
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
        share = free(scale)
        seen = jax.tree.map(
            lambda g, f: jnp.where(f > 0, _times(g, scale), jnp.zeros((), g.dtype)), grads, share
        )
        updates, state = inner.update(seen, state, params, **extra)
        return jax.tree.map(_times, updates, share), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _times(x: Array, factor: Array) -> Array:
    """x times a factor, in the precision of x."""
    return x * jnp.asarray(factor, x.dtype)


def global_norm(tree: Tree) -> Array:
    """The Euclidean norm of all numbers of a tree, float32[]."""
    # Row by row, behind a barrier: what makes the rows fuses into their sums, and memory is read in
    # order. As one sum over both axes the compiler would walk through it in small tiles.
    rows = [
        jnp.sum(jnp.square(jnp.atleast_1d(x).astype(jnp.float32)), axis=-1)
        for x in jax.tree.leaves(tree)
    ]
    return jnp.sqrt(sum(jnp.sum(r) for r in lax.optimization_barrier(rows)))


def probe(
    apply: Callable[[Tree, dict[str, Array]], Tree],
    net: Tree,
    axes: Axes,
    units: Mapping[str, int],
    seed: int = 0,
) -> None:
    """Raise ValueError, naming the parameter, for a network that protection cannot hold still.

    `apply(net, a)` gives the network's outputs on some inputs under the gates a {gate: "units"},
    without dropout. About half of the units are closed; then every weight that a later task could
    change, since it leads to or from a closed unit, is changed at random. Outputs must stay the
    same, bit by bit. They do not where something reads closed units around their gate, a norm above
    all. It costs one compilation of `apply` and two calls.
    """
    rng = np.random.default_rng(seed)  # of NumPy: JAX would compile for every shape
    a = {  # at least one unit open, and one closed if there are two
        gate: rng.permutation(np.arange(n) < (n + 1) // 2).astype(np.float32)
        for gate, n in units.items()
    }

    def noisy(p: Array, free: Array = 1.0) -> np.ndarray:
        p = np.asarray(p)
        noise = rng.uniform(0.1, 1, p.shape) / np.sqrt(max(1, p.size / max(1, *p.shape[-1:])))
        return (p + noise * (np.asarray(free) > 0)).astype(p.dtype)

    # Not as initialised: a norm's bias of 0, say, would hide what it lets through.
    base = jax.tree.map(noisy, net)
    moved = jax.tree.map(
        lambda p, rule: p if rule == PER_TASK else noisy(p, free(a, rule, p.shape)), base, axes
    )
    run = jax.jit(lambda net: apply(net, a))

    def same(net: Tree, outputs: Tree) -> bool:
        pairs = zip(jax.tree.leaves(run(net)), jax.tree.leaves(outputs), strict=True)
        return all(bool(jnp.array_equal(x, y)) for x, y in pairs)

    before = run(base)
    if not all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(before)):
        raise ValueError("its outputs on random inputs are not finite, so nothing can be told")
    if same(moved, before):
        return
    leaves, tree = jax.tree.flatten(base)
    # Which parameter it is; if each alone does nothing, it is several together.
    each = jax.tree_util.tree_leaves_with_path(moved)
    guilty = (
        i
        for i, (_, p) in enumerate(each)
        if not same(jax.tree.unflatten(tree, [*leaves[:i], p, *leaves[i + 1 :]]), before)
    )
    i = next(guilty, 0)
    rule = _pairs(net, axes)[i][1]
    gates = ", ".join(repr(gate_on(axis)) for axis in rule if gate_on(axis) is not None)
    raise ValueError(
        f"parameter {path(each[i][0])} of shape {jnp.shape(leaves[i])}, with the gates {gates}: "
        "changing it where they are closed changes what the network gives, so a later task would "
        "change what earlier ones have learned. Likely a norm after the gate, which opens closed "
        "units again (multiply its output by the gate, and make its scale and bias PER_TASK); a "
        "norm over several units before the gate, which mixes closed ones into the others "
        "(multiply its input by the gate, too); something that reads the units around their gate, "
        "as a skip connection does; or a flatten in another order than the rule says"
    )


def used(past: Mapping[str, Array], axes: Axes, net: Tree) -> dict[str, dict[str, Array]]:
    """The share of the network that tasks with the cumulative gates `past` use, 0..1.

    {gate: {"units": u, "weights": w}, ..., "all": {"units": u, "weights": w}}: u is the mean of
    a^{<=t} over the units, w the mean of min(a^{<=t}_i, a^{<=t}_j), what eq. 2 withholds from later
    tasks, over the weights and biases on which the gate lies; "all" is over all gates and all
    parameters but the PER_TASK ones. A weight between two gates counts for both. Given the gates of
    one task in place of the past, it is what that task uses.
    """
    leaves = [(p.shape, rule) for p, rule in _pairs(net, axes) if rule != PER_TASK]
    held = [(*_held(past, rule, shape), set(map(gate_on, rule))) for shape, rule in leaves]

    def mean(gate: str | None) -> Array:
        some = [(n, total) for n, total, names in held if gate is None or gate in names]
        return sum(t for _, t in some) / max(1, sum(n for n, _ in some))

    each = {g: {"units": jnp.mean(a), "weights": mean(g)} for g, a in past.items()}
    units = jnp.concatenate([jnp.ravel(a) for a in past.values()]) if past else jnp.zeros(1)
    return each | {"all": {"units": jnp.mean(units), "weights": mean(None)}}


def held(a: Mapping[str, Array], axes: Axes, net: Tree) -> Array:
    """The share of the weights that tasks share which the gates `a` hold: used(...)["all"]."""
    leaves = [(p.shape, rule) for p, rule in _pairs(net, axes) if rule != PER_TASK]
    each = [_held(a, rule, shape) for shape, rule in leaves]
    return sum(total for _, total in each) / max(1, sum(n for n, _ in each))


def overlap(a: Sequence[Mapping[str, Array]], axes: Axes, net: Tree) -> Array:
    """The share of task i's weights that task j uses too, [i, j] in "T T" (the paper's Fig. 6).

    `a` are the gates of each task, {gate: "units"}. A task uses a weight as far as it uses the
    units on all its axes, min(a_i, a_j). A task that uses nothing shares nothing.
    """
    common = jax.jit(lambda a, b: held(jax.tree.map(jnp.minimum, a, b), axes, net))
    shared = jnp.stack([jnp.stack([common(dict(b), dict(c)) for c in a]) for b in a])
    own = jnp.diag(shared)[:, None]
    return jnp.where(own > 0, shared / jnp.where(own > 0, own, 1), 0)


def _held(a: Mapping[str, Array], rule: Any, shape: tuple[int, ...]) -> tuple[int, Array]:
    """The numbers of a parameter, and how many of them the gates hold."""
    kept = jnp.broadcast_to(1 - free(a, rule, shape), shape)
    return kept.size, jnp.sum(kept)


def _pairs(net: Tree, axes: Axes) -> list[tuple[Array, Any]]:
    """Each parameter with its rule."""
    found: list[tuple[Array, Any]] = []
    jax.tree.map(lambda p, rule: found.append((p, rule)), net, axes)
    return found
