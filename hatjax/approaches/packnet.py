"""PackNet (Mallya and Lazebnik, CVPR 2018).

A task trains the weights that no earlier task has, gives back those of them that turn out small,
and trains the rest once more. Nothing is forgotten: what a task keeps never moves again, and what
later tasks add it does not use.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.errors import InputError
from hatjax.training import schedules, subnetworks
from hatjax.training.steps import choose
from hatjax.types import Approach, Array, Network, Schedule, Step, Tree


class Settings(NamedTuple):
    prune: float = 0.75  # share of a layer's free weights that a task gives back; good: 0.5..0.9
    clip: float = 10000.0  # largest global norm of a gradient


class Packing(NamedTuple):
    """Where a task stands: the schedule of its phase, and how many epochs it has had in all."""

    inner: Tree
    epoch: Array  # int32[]

    @property
    def lr(self) -> Array:
        """The learning rate of the next epoch."""
        return self.inner.lr

    @property
    def done(self) -> Array:
        """bool[], whether the task is over. Where the first phase ends, the same update begins the
        second, so this is never True between them."""
        return self.inner.done


def owned(params: Tree, memory: Tree, task: Array) -> Tree:
    """The trunk that a task uses: what it and the tasks learned before it own, 0 elsewhere.

    Before it has pruned, it uses all weights.
    """
    turn = memory["turn"][task]

    def used(owner: Array) -> Array:
        return (turn == 0) | ((owner > 0) & (owner <= turn))

    return subnetworks.chosen(params["trunk"], jax.tree.map(used, memory["owner"]))


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """1 for weights that may move, 0 for others: those without an owner may; after the task has
    pruned, its own alone."""
    mine = jnp.where(memory["turn"][step.task] > 0, step.seen + 1, 0)
    trunk = jax.tree.map(lambda owner: (owner == mine).astype(jnp.float32), memory["owner"])
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def prune(params: Tree, memory: Tree, step: Step) -> tuple[Tree, Tree]:
    """The task takes the largest of the weights without an owner; the others become 0.

    In each layer the share `prune` of them, those of the smallest magnitude, stays without an
    owner. Biases (parameters with one axis) are not pruned: the first task takes them all.
    """
    share = step.hyper.approach.prune
    turn = step.seen + 1

    def taken(w: Array, owner: Array) -> Array:
        unowned = owner == 0
        if w.ndim < 2:
            return jnp.where(unowned, turn, owner).astype(jnp.uint8)
        size = jnp.where(unowned, jnp.abs(w), 0)
        count = jnp.sum(unowned)
        given_back = jnp.round(share * count).astype(jnp.int32)
        cutoff = subnetworks.kth_largest(size, count - given_back + 1)
        return jnp.where(size > cutoff, turn, owner).astype(jnp.uint8)

    owner = jax.tree.map(taken, params["trunk"], memory["owner"])
    trunk = jax.tree.map(lambda w, o: jnp.where(o > 0, w, 0), params["trunk"], owner)
    turns = memory["turn"].at[step.task].set(turn)
    return params | {"trunk": trunk}, memory | {"owner": owner, "turn": turns}


def schedule(config: ConfigDict) -> Schedule:
    """config.schedule twice: before pruning and, from config.lr again, after it.

    The second has the share config.approach.retrain of config.epochs, and the first the others;
    the first ends sooner if its learning rate falls below config.lr_min. What is pruned is the best
    that it has found.
    """
    later = min(round(config.approach.retrain * config.epochs), config.epochs - 1)
    first, second = (
        schedules.make(_with_epochs(config, n)) for n in (config.epochs - later, max(1, later))
    )

    def start(params, memory, step):
        inner, memory = first.start(params, memory, step)
        return Packing(inner, jnp.int32(0)), memory

    def update(state, loss, params, memory, step):
        pruned = memory["turn"][step.task] > 0
        inner, params, memory = lax.cond(
            pruned, second.update, first.update, state.inner, loss, params, memory, step
        )
        epoch = state.epoch + 1
        ends = ~pruned & (inner.done | (epoch >= config.epochs - later))
        best = prune(*first.best(inner, params, memory, step), step)
        fresh, _ = second.start(*best, step)
        now = choose(ends, (fresh, *best), (inner, params, memory))
        return Packing(now[0], epoch), now[1], now[2]

    def best(state, params, memory, step):
        return first.best(state.inner, params, memory, step)

    def mark_failed(state):
        return state._replace(inner=first.mark_failed(state.inner))

    return Schedule(start, update, best, mark_failed)


def _with_epochs(config: ConfigDict, epochs: int) -> ConfigDict:
    other = config.copy_and_resolve_references()
    other.epochs = epochs
    return other


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the weights without an owner, then pruning, then SGD on those that the task has kept.

    Weights that are given back become 0, and the next task starts from there. Biases are those of
    the first task, as in the paper; norms and heads are a task's own.

    memory: "owner", uint8, a tree like the trunk: 0 for a weight without an owner, k for one of the
    k-th task learned; "turn" "T" int32, that k of each task, 0 before it has pruned.
    InputError for more than 255 tasks, and where tasks share no weights.
    """
    base = sgd.make(config, network, free)
    tasks = len(network.classes)
    if tasks > 255:
        raise InputError(
            f"config.tasks.count: {tasks} tasks: PackNet keeps the owner of a weight in one byte, "
            "so it learns at most 255"
        )
    subnetworks.check_shared(network)

    def init(key):
        params, _ = base.init(key)
        owner = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.uint8), params["trunk"])
        return params, {"owner": owner, "turn": jnp.zeros(tasks, jnp.int32)}

    def take(params, memory, step):
        own = base.take(params, memory, step)
        return own | {"trunk": owned(params, memory, step.task)}

    def end_task(params, memory, data, step):
        # It has not pruned yet if it was ended before its first phase was over.
        pruned = memory["turn"][step.task] > 0
        return choose(pruned, (params, memory), prune(params, memory, step))

    def predict(params, memory, x, task, hyper):
        return network.apply(params | {"trunk": owned(params, memory, task)}, x, task).logits

    def report(params, memory, step):
        mine = jax.tree.map(lambda owner: owner == step.seen + 1, memory["owner"])
        unowned = jax.tree.map(lambda owner: owner == 0, memory["owner"])
        return {"kept": subnetworks.share_of(mine), "used": 1 - subnetworks.share_of(unowned)}

    return base._replace(
        init=init,
        take=take,
        schedule=schedule(config),
        restarts=lambda before, after, step: jnp.any(before["turn"] != after["turn"]),
        end_task=end_task,
        predict=predict,
        report=report,
    )


APPROACH = ApproachSpec(
    make,
    label="PackNet",
    settings=Settings(),
    ranges={"prune": ranges.SHARE, "clip": ranges.POSITIVE, "retrain": ranges.SHARE},
    usual={"prune": (0.3, 0.95)},
    # Share of a task's epochs after pruning: in the paper 10 of 30.
    fixed=dict(retrain=1 / 3),
)
