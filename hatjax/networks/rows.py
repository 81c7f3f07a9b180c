"""The row of one task in the parameters that are kept for every task.

Embeddings, heads, norms and their statistics have a row for each task, and a training step needs
the row of one. It is taken out before an epoch and put back after it, so that the time of a step
does not depend on the number of tasks. A network that is given a single row reads that row,
whatever the task.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from hatjax.types import Array, Step, Tree

PER_TASK = ("gates", "head", "norms", "stats")  # the parts whose first axis is the task
# Of these, those that tasks share where a batch serves several of them (joint training, replay,
# LwF's old heads).
# While a task is learned they are kept in that task's row; then all rows get it (`spread`).
SHARED = ("norms", "stats")


def pick(table: Array, task: Array) -> Array:
    """The row of `task` in "T ...", or the only row in "1 ..."."""
    return lax.dynamic_index_in_dim(table, task if table.shape[0] > 1 else 0, keepdims=False)


def place(table: Array, row: Array, task: Array) -> Array:
    """The inverse of pick: "T ..." with `row` in the place of the task."""
    index = task if table.shape[0] > 1 else 0
    return lax.dynamic_update_index_in_dim(table, row, index, axis=0)


def take(params: Tree, task: Array, parts: Sequence[str] = PER_TASK) -> Tree:
    """The parameters (or some parts) with one row, that of `task`, in every per-task array."""
    own = [k for k in parts if k in params]
    return params | {k: jax.tree.map(lambda p: pick(p, task)[None], params[k]) for k in own}


def spread(params: Tree, task: Array) -> Tree:
    """The parameters with the row of `task` copied to those of all tasks, in the parts SHARED."""
    own = take({k: params[k] for k in SHARED}, task, SHARED)
    return params | {
        k: jax.tree.map(lambda p, q: p.at[:].set(q), params[k], own[k]) for k in SHARED
    }


def shared_by_all(params: Tree, step: Step) -> Tree:
    """The parameters before a task, with the parts SHARED as the tasks before it have left them.

    All rows are the same then, except where a run goes on with more tasks: the rows added for
    these, after those that it had, are fresh. Row 0 is never one of them.
    """
    return spread(params, jnp.where(step.seen > 0, 0, step.task))


def put(params: Tree, own: Tree, task: Array, parts: Sequence[str] = PER_TASK) -> Tree:
    """The inverse of take: `own` in its place among the rows of all tasks."""

    def back(table: Array, row: Array) -> Array:
        return place(table, row[0], task)

    return own | {k: jax.tree.map(back, params[k], own[k]) for k in parts if k in params}
