"""Hard Attention to the Task (Serra, Suris, Miron and Karatzoglou, ICML 2018), for any network.

Every unit of a network is multiplied by a gate a = sigmoid(s e), e a number that is learned for
each task. Weights between units that earlier tasks use are held still, and a regulariser keeps the
number of units that a task opens low. This file is the whole method, on plain pytrees; a training
loop with it:

    axes = hat.axes(net, {r"fc1/kernel": (None, "fc1"), r"fc1/bias": ("fc1",),
                          r"head/.*": hat.PER_TASK})
    gates = hat.init_gates(key, {"fc1": 400}, tasks=10)
    past = hat.no_past(gates)
    params = {"net": net, "gates": gates}
    tx = hat.optimizer(optax.adamw(1e-3), axes)
    for task in range(10):
        opt = tx.init(params)
        for progress, batch in ...:                     # progress 0..1 within an epoch
            s = hat.anneal(progress, s_max=400.0)
            # grads of: cross-entropy of the network under a = hat.gate(params["gates"], task, s)
            #           + c hat.sparsity(a, past)
            updates, opt = tx.update(grads, opt, params, past=past, s=s, task=task)
            params = optax.apply_updates(params, updates)
        past = hat.accumulate(past, hat.gate(params["gates"], task, s=400.0))

The network multiplies the output of its units by a[gate], before whatever reads them. All
functions are pure and may be jitted, vmapped and differentiated. Letters as in the paper: t task,
e embedding, s steepness, a gate; the equations are the paper's. This file imports jax, optax and
hatjax.protection alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hatjax import protection
from hatjax.protection import PER_TASK, axes, overlap, used

__all__ = [
    "PER_TASK", "accumulate", "anneal", "axes", "binarise", "exact_sigmoid", "gate", "init_gates",
    "no_past", "optimizer", "overlap", "sparsity", "used",
]  # fmt: skip

Array = Any  # a jax.Array, or a NumPy array, a number or a tracer in its place
Tree = Any  # a pytree of arrays
Gates = Mapping[str, Array]  # gate -> "units"
Embeddings = Mapping[str, Array]  # gate -> "tasks units"

STARTS: dict[str, Callable] = {
    "normal": jax.nn.initializers.normal(1.0),  # N(0, 1): the paper's experiments
    "uniform": jax.nn.initializers.uniform(2.0),  # U(0, 2), all open: compression (section 4.4)
    "dense": jax.nn.initializers.constant(1.0),  # all open, and equally (HAT-CL)
}


def init_gates(
    key: Array, units: Mapping[str, int], tasks: int, start: str | Callable = "normal"
) -> dict[str, Array]:
    """The embeddings of all gates before the first task: {"fc1": 400} -> {"fc1": "tasks 400"}.

    `start` is "normal", N(0, 1); "uniform", U(0, 2), or "dense", 1: every unit starts open; or an
    initialiser of JAX, (key, shape) -> array. ValueError for another name, and for numbers below 1.
    """
    if isinstance(start, str) and start not in STARTS:
        raise ValueError(f"start = {start!r}: expected one of {', '.join(STARTS)}, or a function")
    if wrong := {k: n for k, n in {**units, "tasks": tasks}.items() if protection.whole(n) < 1}:
        raise ValueError(f"{wrong}: expected whole numbers of at least 1")
    draw = STARTS[start] if isinstance(start, str) else start
    keys = jax.random.split(key, max(1, len(units)))
    return {name: draw(k, (tasks, n)) for (name, n), k in zip(units.items(), keys, strict=False)}


@jax.custom_jvp
def exact_sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with a derivative that stays exact in float32 where x is large.

    The usual y (1 - y) is 0 once y rounds to 1, at x = 17: an open gate then cannot close late in
    an epoch, while a closed one still opens. Here it is y(x) y(-x), which does not round to 0. With
    it the sparsity closes gates in more of the steps: the same c presses about three times as hard.
    """
    return jax.nn.sigmoid(x)


@exact_sigmoid.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    y = jax.nn.sigmoid(x)
    return y, y * jax.nn.sigmoid(-x) * dx


def gate(
    gates: Embeddings, task: Array, s: Array, sigmoid: Callable[[Array], Array] = jax.nn.sigmoid
) -> dict[str, Array]:
    """a_l^t = sigmoid(s e_l^t) (eq. 1), the gates: {"fc1": "tasks 400"} -> {"fc1": "400"}.

    `task` counts from 0 and may be traced. Embeddings with a single row are those of the task.
    `sigmoid` is the usual one, whose derivative is 0 beyond s e = 17, or `exact_sigmoid`.
    ValueError for what is none of the tasks (protection.check_task).
    """

    def one(e: Array) -> Array:
        protection.check_task(task, e)
        mine = lax.dynamic_index_in_dim(e, task if e.shape[0] > 1 else 0, keepdims=False)
        return sigmoid(s * mine)

    return {name: one(e) for name, e in gates.items()}


SHAPES: dict[str, Callable[[Array], Array]] = {  # of the way from 1 / s_max to s_max: `anneal`
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - jnp.cos(jnp.pi * progress)) / 2,
    "dip": lambda progress: (1 + jnp.cos(2 * jnp.pi * progress)) / 2,
}


def anneal(progress: Array, s_max: Array, shape: str = "linear") -> Array:
    """s = 1/s_max + (s_max - 1/s_max) p (eq. 3): nearly flat gates first, hard ones last.

    `progress` is how far the epoch is, (b - 1) / (B - 1) for batch b of B: 0 at its first batch and
    1 at its last. p is the progress ("linear", the paper's); or (1 - cos(pi progress)) / 2
    ("cosine"), which stays longer near both ends; or (1 + cos(2 pi progress)) / 2 ("dip"), which is
    1 at both ends and 0 between: with gates that start open ("dense") first the weights learn, then
    the gates, then the weights that the gates have left (HAT-CL's "cosine"; Duan, 2023). ValueError
    for another shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape = {shape!r}: expected one of {', '.join(SHAPES)}")
    return 1 / s_max + (s_max - 1 / s_max) * SHAPES[shape](progress)


def sparsity(a: Gates, past: Gates, full: float = 0.0) -> Array:
    """R = sum a^t (1 - a^{<t}) / sum (1 - a^{<t}) over the units of all gates (eq. 5), 0..1.

    The share of the free units that the task takes; c R is added to the loss (eq. 4; c = 0.75 in
    the paper). a^t and a^{<t} are {gate: "units"}, R float32[]; `full` is R when no unit is free.
    """
    taken = sum(jnp.sum(a[name] * (1 - past[name])) for name in past)
    total = sum(jnp.sum(1 - p) for p in past.values())
    return jnp.where(total > 0, taken / jnp.where(total > 0, total, 1), full)


def no_past(gates: Embeddings) -> dict[str, Array]:
    """The cumulative gates before the first task, zeros: {"fc1": "tasks 400"} -> {"fc1": "400"}."""
    return {name: jnp.zeros(e.shape[1], jnp.float32) for name, e in gates.items()}


def accumulate(past: Gates, a: Gates) -> dict[str, Array]:
    """a^{<=t} = max(a^t, a^{<=t-1}), unit by unit, {gate: "units"}.

    `a` are the gates of the task just learned, at s_max, and `past` those of the tasks before.
    """
    return {name: jnp.maximum(past[name], a[name]) for name in past}


def binarise(gates: Embeddings, task: Array, bound: Array = 6.0) -> dict[str, Array]:
    """The embeddings {gate: "tasks units"} with those of `task` rounded: +bound or -bound.

    Positive ones become +bound, all others -bound.
    Its gates at s_max are then exactly 1 or 0 in float32 (where s_max * bound is 104 or more), and
    what later tasks change does not show in its outputs at all: half-open gates let its weights
    move a little. Call it after the task, before `accumulate`.
    """

    def one(e: Array) -> Array:
        protection.check_task(task, e)
        mine = (jnp.arange(e.shape[0]) == (task if e.shape[0] > 1 else 0))[:, None]
        return jnp.where(mine, jnp.where(e > 0, bound, -bound), e)

    return {name: one(e) for name, e in gates.items()}


def compensate(q: Array, e: Array, s: Array, s_max: Array, cosh_max: Array) -> Array:
    """q' = q s_max [cosh(s e) + 1] / (s [cosh(e) + 1]), |s e| at most `cosh_max` (section 2.4).

    q is the gradient of the embeddings e. Annealing s makes it small early and late in an epoch;
    this undoes it, so that embeddings move at any s. From s_max = 1e19 on, s_max^2 overflows.
    """
    steep = jnp.cosh(jnp.clip(s * e, -cosh_max, cosh_max)) + 1
    return q * (s_max / s) * steep / (jnp.cosh(e) + 1)


def keep(u: Array, e: Array, e_max: Array) -> Array:
    """The update u of embeddings e, cut so that |e + u| <= e_max: beyond, gates hardly move."""
    return jnp.clip(e + u, -e_max, e_max) - e


def optimizer(
    inner: optax.GradientTransformation,
    axes: protection.Axes,
    *,
    s_max: Array = 400.0,
    clip: Array | None = None,
    overflow: float = 0.0,
    e_max: Array = 6.0,
    cosh_max: Array = 50.0,
    gates: optax.GradientTransformation | None = None,
    shares: Callable = protection.shares,
) -> optax.GradientTransformationExtraArgs:
    """Any Optax optimizer `inner`, made to keep what earlier tasks have learned.

    It works on the parameters {"net": ..., "gates": {gate: "tasks units"}}; `axes` is what
    hatjax.axes gives for "net". Besides gradients, state and parameters, `update` takes

        past=   the cumulative gates of the tasks before, {gate: "units"} (no_past, accumulate)
        s=      the steepness at which the gradient was taken
        task=   which task learns, from 0

    A step does, in this order:

    1. the gradient of the embeddings is compensated for s (`compensate`);
    2. all gradients are scaled to a global norm of at most `clip`; in the norm, the gradient of a
       weight is multiplied by how free the weight is, 1 - min(a^{<=t}_i, a^{<=t}_j) (eq. 2); where
       that norm is not finite they become `overflow`, 0 or NaN;
    3. `inner` is given the gradients, with 0 for weights that are not free at all;
    4. its update of a weight is multiplied by how free the weight is (hatjax.protection.protect);
    5. embeddings are kept within |e| <= e_max (`keep`).

    Of PER_TASK parameters and embeddings only the row of `task` moves, whatever `inner` would do to
    the others. With plain SGD this is the published step; with any other optimizer, weights that
    earlier tasks hold stay, bit by bit, in spite of its moments and weight decay.

    `gates` is another optimizer for the embeddings; None: they are parameters like any other.
    shares(past, task, axes, net) says how far each parameter may move, 0..1, in place of eq. 2
    (hatjax.approaches.adahat); `past` is then whatever it takes. Begin every task with
    tx.init(params), so that it starts with fresh moments. s_max, clip, e_max and cosh_max may be
    traced. `init` raises ValueError, naming the parameter, where gates and axes do not fit each
    other (hatjax.protection.check), and `update` for a past of other gates or numbers of units, and
    a task that is none.
    """
    if not hasattr(inner, "update"):
        raise ValueError(f"inner = {inner!r}: expected an optimizer, as optax.adam(1e-3) gives")
    if gates is not None:
        each = {"net": inner, "gates": gates}
        inner = optax.multi_transform(each, {"net": "net", "gates": "gates"})
    protected = protection.protect(inner, clip, overflow)

    def init(params: Tree) -> Tree:
        protection.check_parts(params, "params")
        protection.check(params["net"], axes, params["gates"])
        return protected.init(params)

    def update(
        grads: Tree,
        state: Tree,
        params: Tree,
        *,
        past: Gates,
        s: Array,
        task: Array,
        **extra: Any,
    ) -> tuple[Tree, Tree]:
        protection.check_parts(params, "params")
        protection.check_parts(grads, "grads")
        e = params["gates"]
        for some in e.values():
            protection.check_task(task, some)
        if shares is protection.shares:
            protection.check_past(past, e)
        q = jax.tree.map(lambda q, e: compensate(q, e, s, s_max, cosh_max), grads["gates"], e)
        mine = jax.tree.map(lambda e: protection.row(task, e), e)

        def free(after: Array) -> Tree:
            # The barrier makes the past depend on the step. Without it the compiler would compute
            # the masks of all weights once, before a loop over steps, store them, and read them in
            # every step beside the weights.
            a, *_ = lax.optimization_barrier((dict(past), jnp.asarray(s), after))
            return {"net": shares(a, task, axes, params["net"]), "gates": mine}

        grads = {"net": grads["net"], "gates": q}
        updates, state = protected.update(grads, state, params, free=free, **extra)
        kept = jax.tree.map(
            lambda u, e, m: jnp.where(m > 0, keep(u, e, e_max), 0), updates["gates"], e, mine
        )
        return {"net": updates["net"], "gates": kept}, state

    return optax.GradientTransformationExtraArgs(init, update)
