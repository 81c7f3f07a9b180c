"""Synaptic Intelligence (Zenke, Poole and Ganguli, "Continual learning through synaptic
intelligence", ICML 2017).

Each weight is pulled back to where the last task left it, the more strongly the more its way
through the earlier tasks has lowered their losses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.types import Approach, Array, Network, Schedule, Tree


class Settings(NamedTuple):
    c: float = 0.1  # strength of the pull
    # Added to the squared distance that a weight moved. 0.001 holds weights harder: better on the
    # digits, worse on incremental CIFAR and permuted MNIST (docs/results).
    xi: float = 0.1
    clip: float = 10000.0  # largest global norm of a gradient


def strength(c: Array, importance: Array, lr: Array) -> Array:
    """c Omega, but at most 1 / (2 lr), with which a step of SGD on the pull alone ends at p*.

    With more than twice as much, steps swing around p* ever wider: on permuted MNIST the loss went
    to 1e11. The learning rate 0, that of evaluation, sets no bound.
    """
    return jnp.minimum(c * importance, 1 / (2 * lr))


def pull(trunk: Tree, old: Tree, importance: Tree, c: Array, lr: Array) -> Array:
    """c sum_i Omega_i (p*_i - p_i)^2 (eq. 4), with the bound of `strength`."""
    terms = jax.tree.map(
        lambda p, q, w: jnp.sum(strength(c, w, lr) * jnp.square(q - p)), trunk, old, importance
    )
    return sum(jax.tree.leaves(terms))


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + c sum_i Omega_i (p*_i - p_i)^2 over the weights i of the trunk, with
    c Omega_i bounded by `strength`.

    Omega_i = sum over the earlier tasks of w_i / (D_i^2 + xi) (eq. 5), D_i the way from the
    beginning of a task to its end, and w_i = -sum over its steps of g_i (change of p_i), g the
    gradient of the cross-entropy alone, before any clipping. Where the sum is below 0, as coarse
    steps can make it, it is set to 0, as in the authors' code: it would push the weight away.

    memory, each like the trunk: "old", p*, which the last task left; "importance", Omega, zeros
    before the first task; "way", w of the task that is being learned. A task ends with its best
    parameters, so w is that of the way until then: the schedule keeps and restores it with them.
    Heads and norms are not pulled: they are a task's own.
    """
    base = sgd.make(config, network)

    def init(key):
        params, _ = base.init(key)
        zeros = jax.tree.map(jnp.zeros_like, params["trunk"])
        # Sums over all steps, in float32 also where the parameters are not.
        sums = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), zeros)
        return params, {"old": zeros, "importance": sums, "way": sums}

    def begin_task(params, memory, step):
        zeros = jax.tree.map(jnp.zeros_like, memory["way"])
        return params, memory | {"old": params["trunk"], "way": zeros}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        c = step.hyper.approach.c
        return entropy + pull(
            params["trunk"], memory["old"], memory["importance"], c, step.lr
        ), out

    def observe(memory, taken, batch, step):
        def add(w, p, new, g, old, importance):
            c = step.hyper.approach.c
            plain = g - 2 * strength(c, importance, step.lr) * (p - old)
            return w - plain * (new - p)

        way = jax.tree.map(
            add,
            memory["way"],
            *(tree["trunk"] for tree in (taken.before, taken.after, taken.grads)),
            memory["old"],
            memory["importance"],
        )
        return memory | {"way": way}

    def end_task(params, memory, data, step):
        def add(total, w, p, old):
            more = w / (jnp.square(p - old) + step.hyper.approach.xi)
            return jnp.maximum(total + more, 0)

        importance = jax.tree.map(
            add, memory["importance"], memory["way"], params["trunk"], memory["old"]
        )
        return params, memory | {"importance": importance}

    return base._replace(
        init=init,
        begin_task=begin_task,
        loss=loss,
        observe=observe,
        schedule=with_memory(base.schedule, "way"),
        end_task=end_task,
    )


def with_memory(schedule: Schedule, name: str) -> Schedule:
    """The schedule, which keeps memory[name] with the best parameters and restores it with them."""

    def both(params: Tree, memory: Tree) -> Tree:
        return {"params": params, "memory": memory[name]}

    def start(params, memory, step):
        state, _ = schedule.start(both(params, memory), memory, step)
        return state, memory

    def update(state, loss, params, memory, step):
        state, found, _ = schedule.update(state, loss, both(params, memory), memory, step)
        return state, found["params"], memory | {name: found["memory"]}

    def best(state, params, memory, step):
        found, _ = schedule.best(state, both(params, memory), memory, step)
        return found["params"], memory | {name: found["memory"]}

    return schedule._replace(start=start, update=update, best=best)


APPROACH = ApproachSpec(
    make,
    label="SI",
    settings=Settings(),
    ranges={"c": ranges.WEIGHT, "xi": ranges.POSITIVE, "clip": ranges.POSITIVE},
    usual={"c": (0, 100), "xi": (1e-6, 1)},
)
