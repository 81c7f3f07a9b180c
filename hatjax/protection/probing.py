"""Whether a network can be protected: whether what is closed shows in its outputs."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hatjax.protection.moving import free
from hatjax.protection.rules import PER_TASK, Array, Axes, Tree, gate_on, path, with_rules

DRAWS = 3  # of the units to close: of two or three units, one draw misses half of what it could see


def probe(
    apply: Callable[[Tree, dict[str, Array]], Tree],
    net: Tree,
    axes: Axes,
    units: Mapping[str, int],
    seed: int = 0,
) -> None:
    """Raise ValueError, naming the parameter, for a network that protection cannot hold still.

    `apply(net, a)` gives the network's outputs on some inputs under the gates a {gate: "units"},
    without dropout; give it some dozens of inputs, since what depends on the largest of the units,
    say, shows only for some. About half of the units are closed. Then every weight that a later
    task could change, since it leads to or from a closed unit, is changed at random. The outputs
    must stay the same, bit by bit. They do not if something reads closed units before they are
    multiplied by their gate, most often a norm. That is tried DRAWS times, and as often with the
    other half closed. It costs one compilation of `apply` and four calls a draw.
    """
    rng = np.random.default_rng(seed)  # of NumPy: JAX would compile for every shape
    run = jax.jit(apply)
    for _ in range(DRAWS):
        a = {  # at least one unit open, and one closed if there are two
            gate: rng.permutation(np.arange(n) < (n + 1) // 2).astype(np.float32)
            for gate, n in units.items()
        }
        for gates in (a, {gate: 1 - open for gate, open in a.items()}):
            _try(run, net, axes, gates, rng)


def _try(
    run: Callable[[Tree, dict[str, Array]], Tree],
    net: Tree,
    axes: Axes,
    a: dict[str, Array],
    rng: np.random.Generator,
) -> None:
    """ValueError where what the gates `a` close shows, as in `probe`."""

    def noisy(p: Array, free: Array = 1.0) -> np.ndarray:
        p = np.asarray(p)
        noise = rng.uniform(0.1, 1, p.shape) / np.sqrt(max(1, p.size / max(1, *p.shape[-1:])))
        return (p + noise * (np.asarray(free) > 0)).astype(p.dtype)

    # Not the initial parameters: a norm whose bias is 0 would seem to keep closed units at 0.
    base = jax.tree.map(noisy, net)
    moved = jax.tree.map(
        lambda p, rule: p if rule == PER_TASK else noisy(p, free(a, rule, p.shape)), base, axes
    )

    def same(net: Tree, outputs: Tree) -> bool:
        pairs = zip(jax.tree.leaves(run(net, a)), jax.tree.leaves(outputs), strict=True)
        return all(bool(jnp.array_equal(x, y)) for x, y in pairs)

    before = run(base, a)
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
    rule = with_rules(net, axes)[i][1]
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
