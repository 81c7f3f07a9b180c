"""From image sets to the sequence of tasks of an experiment."""

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data import Raw
from hatjax.data.tasks import given, images, joining, permuted, split
from hatjax.errors import InputError, unknown
from hatjax.types import Split, Task

GIVEN = "given"  # config.tasks.kind of tasks given as arrays (of_arrays)
KINDS: dict[str, Callable[..., list[Task]]] = {"permuted": permuted.make, "split": split.make}


def make(config: ConfigDict) -> list[Task]:
    """The tasks of `config` in learning order, on the host.

    Raises InputError for an unknown kind or image set, or a task that lacks images of a class.
    """
    if config.tasks.kind == GIVEN:
        raise InputError(
            f"config.tasks.kind = {GIVEN!r}: its tasks were arrays, which are not kept: give them "
            "to hatjax.fit again"
        )
    if config.tasks.kind not in KINDS:
        raise unknown("kind of tasks", config.tasks.kind, KINDS)
    return checked(KINDS[config.tasks.kind](config, sets(config)))


def of_runs(stages: Sequence[ConfigDict]) -> list[Task]:
    """The tasks of runs of which each extends the one before, the first one first.

    Raises InputError as `make`.
    """
    found: list[Task] = []
    for config in stages:
        if config.tasks.kind == GIVEN and len(stages) > 1:
            raise InputError(
                "the run, or one that it extends, learned tasks that were given as arrays, which "
                "are not kept: call hatjax.extend(model, sets, earlier=...) with their test "
                "examples"
            )
        found = joining.after(found, make(config))
    return found


def of_arrays(
    config: ConfigDict, arrays: Sequence[tuple], known: Sequence[tuple[str, ...]] = ()
) -> list[Task]:
    """A task for each (x_train, y_train, x_test, y_test); InputError for unusable arrays.

    `known` are the columns of tables that were learned before, in their order.
    """
    return checked(given.make(config, arrays, known))


def checked(tasks: list[Task]) -> list[Task]:
    """Return `tasks`; InputError if one lacks training images, or their image shapes differ.

    Warns of classes without test images.
    """
    for task in tasks:
        check(task)
        if task.train.x.shape[1:] != tasks[0].train.x.shape[1:]:
            raise InputError(
                f"images of task {task.name!r} are {task.train.x.shape[1:]}, those of "
                f"{tasks[0].name!r} {tasks[0].train.x.shape[1:]}: bring them to one shape, as with "
                '--config.data.image="(32,32,3)"'
            )
    if untested := [task for task in tasks if len(_absent(task, task.test))]:
        task = untested[0]
        logging.warning(
            "task %r%s has no test image of its class %s: its accuracy does not count that class",
            task.name,
            f" and {len(untested) - 1} more" if len(untested) > 1 else "",
            ", ".join(_called(task, c) for c in _absent(task, task.test)),
        )
    return tasks


def sets(config: ConfigDict) -> Iterator[tuple[str, Raw]]:
    """Yield the names and image sets of `config` one at a time, to save memory."""
    where, size = data.root(config.data.root), tuple(config.data.image)[:2] or None
    for name in config.data.sets:
        try:
            raw = data.load(name, where, size)
        except InputError as error:
            others = tuple(n for n in config.data.sets if n != name)
            if not others:
                raise
            reason = str(error).rstrip(".")
            raise InputError(f'{reason}; or leave it out: --config.data.sets="{others}"') from error
        yield name, images.fit(config, name, raw)


def by_row(tasks: Sequence[Task], field: str) -> tuple:
    """A field of all tasks, in the order of their rows."""
    return tuple(getattr(task, field) for task in sorted(tasks, key=lambda task: task.row))


def check(task: Task) -> None:
    """Raise InputError if a split of `task` is empty, or a class has no training images."""
    for name in ("train", "valid", "test"):
        if not len(getattr(task, name).y):
            why = ", since each class keeps one to train on" if name == "valid" else ""
            raise InputError(
                f"task {task.name!r} has no {name} images: give more images{why}, or change "
                "--config.tasks.valid or --config.data.examples"
            )
    if len(absent := _absent(task, task.train)):
        lost = f"task {task.name!r} has no train image of its class {_called(task, absent[0])}"
        if absent[0] in task.valid.y:  # under fidelity "code"
            raise InputError(
                f"{lost}, since all of them are held out: give more images of it, or take "
                "--config.fidelity=paper, which keeps one of each class"
            )
        raise InputError(
            f"{lost} (of {task.classes}): give more images of it, fewer tasks, or change "
            "--config.data.examples"
        )


def _absent(task: Task, split: Split) -> np.ndarray:
    """The classes of which a split of the task has no image."""
    return np.setdiff1d(np.arange(task.classes), split.y)


def _called(task: Task, label: int) -> str:
    return str(task.about.labels[label] if task.about.labels else label)
