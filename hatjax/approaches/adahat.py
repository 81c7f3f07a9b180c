"""AdaHAT: Adaptive Hard Attention to the Task (Wang, Bo, Hong, Liu and Mu, ECML PKDD 2024).

HAT, but the weights that earlier tasks use are slowed instead of held. A used weight moves less,
the more tasks use it, and the more of the free units the current task takes. Since nothing is held
completely, a task can still learn when few units are free. Earlier tasks may change: it does not
promise HAT's bit-identical past. The equations are as in the authors' code
(continual-learning-arena, adahat.py), but for two of its choices: there R is 0 where at most ten
units of a layer are free, and the gates of learned tasks are rounded (here with `binarise`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax import hat, protection
from hatjax.approaches import hat as hat_approach
from hatjax.config import ranges
from hatjax.protection import PER_TASK
from hatjax.types import Approach, Array, Network, Step, Tree


class Settings(NamedTuple):
    s_max: float = 400.0  # these five as in HAT
    c: float = 0.75
    clip: float = 10000.0
    e_max: float = 6.0
    cosh_max: float = 50.0
    alpha: float = 1e-6  # larger: used weights move farther (the authors' experiments)
    epsilon: float = 0.1  # the least share of free units by which alpha is divided (likewise)


def slowed(n: Array, r: Array) -> Array:
    """r / (n + r) (eq. 8), the factor on the gradient of a weight that n tasks use.

    A weight that none uses has 1, also where r is 0 or infinite in float32.
    """
    r = jnp.clip(r, 1e-30, 1e30)
    return r / (n + r)


def intensity(a: dict, past: dict, alpha: Array, epsilon: Array) -> dict[str, Array]:
    """r_l = alpha / (epsilon + R_l) (eq. 9) of each gate l, {gate: float32[]}.

    R_l is the share of the gate's free units that the gates `a` of this step take (hat.sparsity).
    While a task takes many of them, used weights move less.
    """
    return {g: alpha / (epsilon + hat.sparsity({g: a[g]}, {g: past[g]})) for g in past}


def shares(past: dict[str, dict], task: Array, axes: Any, net: Tree) -> Tree:
    """As protection.shares, but used weights are `slowed` in place of held.

    `past` has "uses", {gate: "units"}, how many tasks use each unit, and "r", {gate: float32[]}. n
    is the smaller of these counts over the units on a weight's axes, r that of its output layer,
    the gate on its last axis.
    """

    def one(p: Array, rule: Any) -> Array:
        if rule == PER_TASK:
            return protection.row(task, p)
        own = [g for g in map(protection.gate_on, rule) if g is not None][-1]
        n = protection.across(jnp.minimum, past["uses"], rule, p.shape)
        return slowed(n, past["r"][own])

    return jax.tree.map(one, net, axes)


def make(config: ConfigDict, network: Network) -> Approach:
    """HAT, whose steps are r / (n + r) times the gradient in place of eq. 2.

    memory: that of HAT, and "uses", the gates of all tasks so far summed, {gate: "units"}.
    """

    def past(own: Tree, memory: Tree, step: Step) -> Tree:
        # The gates of this step, at its s; the optimizer gets no more of them than R.
        a = network.gates(own, step.task, steep(memory, step))
        now = step.hyper.approach
        r = intensity(a, memory["past"], now.alpha, now.epsilon)
        return {"uses": memory["uses"], "r": r}

    steep = hat_approach.steepness(config)
    base = hat_approach.make(config, network, past, shares)

    def init(key):
        params, memory = base.init(key)
        return params, memory | {"uses": hat.no_past(params["gates"])}

    def end_task(params, memory, data, step):
        params, memory = base.end_task(params, memory, data, step)
        a = base.gates(params, memory, step.task, step.hyper)
        return params, memory | {"uses": jax.tree.map(jnp.add, memory["uses"], a)}

    def with_past(memory, past):
        # A unit that no task uses any more starts anew; how many of the others use a unit that the
        # forgotten task has used too is not known here, so it stays counted.
        uses = jax.tree.map(lambda n, p: jnp.where(p > 0, n, 0), memory["uses"], past)
        return base.with_past(memory, past) | {"uses": uses}

    def grow(memory, fresh):
        return fresh | {k: memory[k] for k in ("past", "uses")}

    return base._replace(init=init, end_task=end_task, with_past=with_past, grow=grow)


APPROACH = hat_approach.APPROACH._replace(
    make=make,
    label="AdaHAT",
    settings=Settings(),
    ranges={
        **hat_approach.APPROACH.ranges,
        "alpha": ranges.POSITIVE,
        "epsilon": ranges.POSITIVE,
    },
    later={},
)
