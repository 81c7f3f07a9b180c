"""Forget one task of a trained HAT network on purpose: reinitialise what only that task uses.

    python -m hatjax.forget results/digits-hat-seed0 --task=3 --out=results/without3

Tasks count from 1, as in the printed accuracies (in Python from 0). The new workdir is used like
any other; the old one is unchanged.
"""

import functools
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from hatjax import cli
from hatjax import config as configs
from hatjax.analysis import masks, models, which
from hatjax.analysis.models import Model
from hatjax.errors import InputError, oneline
from hatjax.experiment import run
from hatjax.networks import rows
from hatjax.protection import free
from hatjax.types import Array, Tree
from hatjax.workdir import files, results, versions


def forget_task(model: Model, task: int, key: Array) -> Model:
    """The model without `task` (counted from 0), as if it were not learned yet.

    Reinitialises its embeddings, its head, and every weight of the trunk that no other learned task
    uses (`used`), including those of free units, which its training has changed. The cumulative
    gates a^{<=t} become the maximum over the other tasks. Weights that others use too keep their
    values, with what this task has contributed to them.

    The outputs of the other tasks stay bit-identical if their gates are 0 or 1, since every changed
    weight is multiplied by a gate of 0. Soft gates up to masks.DEAD also count as 0; outputs then
    change by less than their rounding. Raises InputError for a model without gates and for a task
    that is unknown, forgotten or not learned.
    """
    masks.live(model, task)
    task = which.place(model, task)
    others = other_learned_tasks(model, task)
    gates = [masks.masks(model, u) for u in others]
    past = {layer: jnp.zeros(n) for layer, n in model.network.units.items()}
    for a in gates:
        past = jax.tree.map(jnp.maximum, past, a)
    fresh = model.network.init(key)
    trunk = jax.tree.map(jnp.where, used(model, others), model.params["trunk"], fresh["trunk"])
    row = model.rows[task]
    own = rows.take(fresh, row) | {"trunk": trunk}
    return model._replace(
        params=rows.put(model.params, own, row),
        memory=model.approach.with_past(model.memory, past),
        learned=tuple(u in others for u in range(len(model.names))),
        forgotten=(*model.forgotten, task),
        accuracy=None if model.accuracy is None else unknown_since(task, model.accuracy),
        loss=None if model.loss is None else unknown_since(task, model.loss),
    )


def unknown_since(task: int, table: np.ndarray) -> np.ndarray:
    """Accuracies or losses "T T" with NaN for `task` from where it was learned."""
    table = table.copy()
    table[task:, task] = np.nan
    return table


def whole(source: Path, model: Model) -> None:
    """Raise InputError if the run in `source` has tasks yet to learn, which would come after."""
    left = [t for t, there in enumerate(model.learned) if not there and t not in model.forgotten]
    if left:
        raise InputError(
            f"the run in {source} has not learned all its tasks (task {left[0] + 1} is next): let "
            "it finish, by the command that began it, before it forgets one"
        )


def used(model: Model, tasks: Sequence[int]) -> Tree:
    """Which weights of the trunk some task of `tasks` uses, with the units on all their axes.

    A tree like the trunk, bool.
    These are fewer than the cumulative gates protect, which are a maximum over tasks: a weight
    between a unit of one task and a unit of another is used by neither.
    """
    units = [masks.live(model, u) for u in tasks]

    def any_of(p: Array, names: tuple[str | None, ...]) -> Array:
        each = (free({k: 1.0 * a for k, a in u.items()}, names, p.shape) == 0 for u in units)
        return jnp.broadcast_to(functools.reduce(jnp.logical_or, each, jnp.array(False)), p.shape)

    return jax.tree.map(any_of, model.params["trunk"], model.network.axes["trunk"])


def released(model: Model, task: int) -> dict[str, int]:
    """How many units and trunk weights `task` (from 0) uses and no other learned task."""
    others = other_learned_tasks(model, task)

    def alone(mine: Tree, *theirs: Tree) -> int:
        def count(a: Array, *rest: Array) -> Array:
            return jnp.sum(a & ~functools.reduce(jnp.logical_or, rest, jnp.array(False)))

        return int(sum(jax.tree.leaves(jax.tree.map(count, mine, *theirs))))

    return {
        "units": alone(masks.live(model, task), *(masks.live(model, u) for u in others)),
        "weights": alone(used(model, [task]), used(model, others)),
    }


def other_learned_tasks(model: Model, task: int) -> list[int]:
    """The learned tasks, except `task`."""
    return [u for u, there in enumerate(model.learned) if there and u != task]


def save(source: Path, where: Path, model: Model, task: int) -> None:
    """Write the workdir `where` for `model`, which has forgotten `task` of the run in `source`.

    The accuracies and losses of the other tasks are those of the run; those of `task` are NaN from
    where it was learned, and its lines of metrics.jsonl are left out. InputError if a file of the
    run is damaged.
    """
    total = len(model.names)
    try:
        acc, loss = (results.read_matrix(source / f"{k}.npy", total) for k in ("accuracy", "loss"))
        epochs = results.read_rows(source / "metrics.jsonl")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{source} is damaged ({oneline(error)}): run it again with --overwrite"
        ) from error
    acc, loss = unknown_since(task, acc), unknown_since(task, loss)
    (where / "config.json").write_text(configs.to_json(model.config))
    shutil.copyfile(source / "tasks.npz", where / "tasks.npz")
    for name in (versions.FILE, results.EARLIER, "energy.npy"):
        if os.path.isfile(source / name):
            shutil.copyfile(source / name, where / name)
    for row in epochs:
        if row["task"] != task:
            results.append(where, row)
    results.save(where, acc, loss, model.params, model.memory)
    if (source / "done").exists():
        (where / "done").touch()


def main(argv: list[str]) -> None:
    """Forget the task that the flags give."""
    logging.getLogger("jax").setLevel(logging.WARNING)
    given = flags.FLAGS
    try:
        source = Path(argv[1])
        model = models.load(source)
        task = cli.index(given.task, len(model.names))
        whole(source, model)
        if not given.out:
            raise InputError("--out=DIR is missing: the folder for the run without the task")
        freed = released(model, task)
        # The run itself uses the indices 0 to the number of tasks (Inputs.key).
        key = jax.random.fold_in(jax.random.key(model.config.seed), len(model.names) + 1 + task)
        with files.folder(Path(given.out)) as part:
            save(source, part, forget_task(model, task, key), task)
        print(
            f"task {task + 1}, {model.names[task]}: {freed['units']:,} units and "
            f"{freed['weights']:,} weights that it alone used start anew"
        )
        print(run.recall(Path(given.out)))
    except InputError as error:
        cli.fail(error)


if __name__ == "__main__":
    cli.define_run()
    flags.declare_key_flag("task")
    flags.declare_key_flag("config")
    flags.DEFINE_string("out", None, "Folder for the run without the task.")
    cli.start(main, cli.parse_run)
