"""Experience replay with a reservoir (Chaudhry et al., "On tiny episodic memories", 2019).

A few examples of the earlier tasks are kept, and every step trains on some of them, too. This file
is also the base of the other approaches that keep examples: `remembering`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.data import memory as data_memory
from hatjax.errors import InputError
from hatjax.networks import rows
from hatjax.training import replay
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Batch, Network, Out, Schedule, Step, Tree

# Dropout uses the key of a step itself. These are folded into it to fill the buffer, to draw from
# it, and for the dropout of what is drawn.
FILLING, DRAWING, REPLAYING = 11, 12, 13

FIELDS = dict(
    buffer=200,  # examples that are kept, of all tasks together: the least of Buzzega et al. (2020)
    replay=64,  # of them in a step, as many as in the usual batch
)
RANGES = sgd.RANGES | {"buffer": ranges.BATCH, "replay": ranges.BATCH}

Head = Callable[[Tree, Step], Array]  # (memory, step) -> "T", 1 for the heads that may move


def heads_in_use(tasks: int) -> Head:
    """The head of the task, and those of the tasks that have examples in the buffer."""

    def which(memory: Tree, step: Step) -> Array:
        buffer = memory["buffer"]
        older = replay.older(buffer, step.task).astype(jnp.float32)
        return jnp.zeros(tasks).at[buffer.task].max(older).at[step.task].set(1.0)

    return which


def remembering(config: ConfigDict, network: Network, head: Head | None = None) -> Approach:
    """SGD that keeps a buffer of examples and does not use it yet.

    memory: "buffer", a replay.Buffer of config.approach.buffer places, and "filling", 1 during a
    task's first epoch, else 0. Every example counts once, however many epochs its task takes: each
    of all tasks so far has the same chance to be kept. The parameters that a schedule restores at
    the end of a task change nothing about that. If an epoch is undone (its loss was not a number),
    the examples that it stored are removed, too, and the next epoch fills the buffer.

    A replayed example goes to the head of its own task. The norms are shared by all tasks
    (rows.SHARED), as in joint training. `head` says which heads may move; None: heads_in_use.
    """
    which = head or heads_in_use(len(network.classes))
    if not network.image:
        raise InputError(
            f"config.approach.name = {config.approach.name!r} keeps images, and this network does "
            "not tell their shape (types.Network.image): make it with hatjax.networks.wrap"
        )

    size = config.approach.buffer
    data_memory.fits(
        4 * size * math.prod(network.image),
        f"config.approach.buffer = {size}: so many images",
        "keep fewer of them",
    )

    base = sgd.make(config, network, sgd.some_heads(which))

    def init(key):
        params, memory = base.init(key)
        buffer = replay.empty(size, network.image)
        return params, memory | {"buffer": buffer, "filling": jnp.float32(0)}

    def begin_task(params, memory, step):
        return rows.shared_by_all(params, step), memory | {"filling": jnp.float32(1)}

    def observe(memory, taken, batch, step):
        some = batch._replace(weight=batch.weight * memory["filling"])
        key = jax.random.fold_in(step.key, FILLING)
        return memory | {"buffer": replay.add(memory["buffer"], some, key)}

    return base._replace(
        init=init,
        begin_task=begin_task,
        take=lambda params, memory, step: rows.take(params, step.task, rows.SHARED),
        put=lambda params, own, memory, step: rows.put(params, own, step.task, rows.SHARED),
        schedule=filled_once(base.schedule),
        end_task=lambda params, memory, data, step: (rows.spread(params, step.task), memory),
        observe=observe,
    )


def filled_once(schedule: Schedule) -> Schedule:
    """The schedule, after whose first epoch with a finite loss the buffer is no longer filled."""

    def update(state, loss, params, memory, step):
        filling = jnp.where(jnp.isfinite(loss), 0, memory["filling"])
        return schedule.update(state, loss, params, memory | {"filling": filling}, step)

    return schedule._replace(update=update)


def drawn(config: ConfigDict, memory: Tree, task: Array, key: Array) -> tuple[Batch, Array]:
    """Random examples of other tasks than `task`, and their places in the buffer."""
    buffer, key = memory["buffer"], jax.random.fold_in(key, DRAWING)
    return replay.draw(buffer, replay.older(buffer, task), config.approach.replay, key)


def answers(network: Network, params: Tree, batch: Batch, key: Array) -> Out:
    """What the network gives for replayed examples, each with the head of its own task.

    It is as in training, with dropout, and running statistics take them in, too. Where there is
    none, the result is finite, and the statistics are as they were.
    """
    some = jnp.any(batch.weight > 0)
    weight = jnp.where(some, batch.weight, 1)
    key = jax.random.fold_in(key, REPLAYING)
    out = network.apply(params, batch.x, batch.task, key=key, weight=weight)
    stats = jax.tree.map(lambda new, old: jnp.where(some, new, old), out.stats, params["stats"])
    return out._replace(stats=stats)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the mean cross-entropy of a batch and of config.approach.replay kept examples.

    All examples of both count the same (Algorithm 1). The kept ones are of earlier
    tasks; the paper, which sees every example once, replays those of the current task as well. The
    validation loss is that of the task alone. memory: as in `remembering`.
    """
    base = remembering(config, network)

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        if step.key is None:  # in evaluation
            return entropy, out
        old, _ = drawn(config, memory, step.task, step.key)
        again = answers(network, params | {"stats": out.stats}, old, step.key)
        new, more = jnp.sum(batch.weight), jnp.sum(old.weight)
        both = (new * entropy + more * cross_entropy(again.logits, old)) / (new + more)
        return both, out._replace(stats=again.stats)

    return base._replace(loss=loss)


APPROACH = ApproachSpec(
    make, label="ER", settings=sgd.Settings(), ranges=RANGES, fixed=FIELDS
)
