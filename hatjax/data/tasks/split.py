"""Split image sets: each task has its own classes of a set, or is a whole set."""

from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data import Raw, scale
from hatjax.data.tasks.holdout import hold_out, order
from hatjax.data.tasks.images import take
from hatjax.errors import InputError
from hatjax.types import About, Split, Task


def make(config: ConfigDict, sets: Iterable[tuple[str, Raw]]) -> list[Task]:
    """Split each image set into config.tasks.count tasks of consecutive classes, evenly.

    The order of the tasks is random by seed if config.tasks.shuffle, else as listed.
    """
    tasks: list[Task] = []
    for name, raw in sets:
        if config.tasks.count > raw.classes:
            raise InputError(
                f"config.tasks.count = {config.tasks.count}: image set {name!r} has "
                f"{raw.classes} classes, and every task needs one of its own: at most {raw.classes}"
            )
        mean, std = data.moments(name, raw.x_train)
        for classes in np.array_split(np.arange(raw.classes), config.tasks.count):
            first, last = int(classes[0]), int(classes[-1])
            train, valid = hold_out(config, *_between(raw.x_train, raw.y_train, first, last))
            test = Split(*_between(raw.x_test, raw.y_test, first, last))
            title = _title(name, first, last, raw.classes)
            about = About((raw.names or ())[first : last + 1], scale=scale.of(train.x))
            task = Task(title, len(tasks), len(classes), train, valid, test, mean, std)
            tasks.append(task._replace(about=about))
    places = order(len(tasks), config.seed) if config.tasks.shuffle else range(len(tasks))
    return [tasks[i] for i in places]


def _title(name: str, first: int, last: int, total: int) -> str:
    """The name of a task: set and classes, or the set alone if the task has all classes."""
    if last - first + 1 == total:
        return name
    return f"{name} {first}-{last}" if last > first else f"{name} {first}"


def _between(x: np.ndarray, y: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The images of the classes first..last, with labels from 0."""
    mine = (first <= y) & (y <= last)
    return take(x, mine), y[mine] - first
