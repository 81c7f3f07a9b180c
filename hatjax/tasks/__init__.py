"""From image sets to the sequence of tasks of an experiment."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.errors import InputError, unknown
from hatjax.tasks import permuted, split
from hatjax.types import Task

KINDS: dict[str, Callable[..., list[Task]]] = {"permuted": permuted.make, "split": split.make}


def make(config: ConfigDict) -> list[Task]:
    """The tasks of `config`, in the order in which they are learned, on the host.

    Raises InputError for an unknown kind or image set, or a task that lacks images of a class.
    """
    if config.tasks.kind not in KINDS:
        raise unknown("kind of tasks", config.tasks.kind, KINDS)
    where = data.root(config.data.root)
    sets = {name: data.load(name, where) for name in config.data.sets}
    tasks = KINDS[config.tasks.kind](config, sets)
    for task in tasks:
        check(task)
    return tasks


def check(task: Task) -> None:
    """Raise InputError if a split of `task` is empty or its training images lack a class."""
    for name in ("train", "valid", "test"):
        if not len(getattr(task, name).y):
            raise InputError(
                f"task {task.name!r} has no {name} images: give more images, or change "
                "--config.tasks.valid or --config.data.examples"
            )
    for name in ("train", "test"):
        absent = np.setdiff1d(np.arange(task.classes), getattr(task, name).y)
        if len(absent):
            raise InputError(
                f"task {task.name!r} has no {name} image of its class {absent[0]} (of "
                f"{task.classes}): give more images of it, or fewer tasks"
            )
