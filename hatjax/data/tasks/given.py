"""Tasks from arrays in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data import columns, scale
from hatjax.data.raw import channels_last, consistent, numbers
from hatjax.data.tasks.holdout import hold_out
from hatjax.errors import InputError
from hatjax.types import About, Split, Task


def make(
    config: ConfigDict, sets: Sequence[tuple], known: Sequence[tuple[str, ...]] = ()
) -> list[Task]:
    """A task for each (x_train, y_train, x_test, y_test), in this order.

    The hold-out is as in the other experiments. Each task is normalised by the mean and standard
    deviation of its training examples, per channel of images or per feature of vectors. The columns
    of tables with the same names are brought to one order, that of the first of them, of which
    those `known` from earlier tasks come first. Raises InputError, naming task and array, for
    unusable arrays.
    """
    if not sets:
        raise InputError("no tasks: give at least one (x_train, y_train, x_test, y_test)")
    tasks: list[Task] = []
    for t, arrays in enumerate(sets):
        name = f"task {t}"
        if not isinstance(arrays, (tuple, list)) or len(arrays) != 4:
            several = isinstance(arrays, (tuple, list))
            what = f"{len(arrays)} arrays" if several else f"a {type(arrays).__name__}"
            alone = "" if several else "; one task alone is a list of one: [(x_train, ...)]"
            raise InputError(f"{name}: {what}: expected (x_train, y_train, x_test, y_test){alone}")
        x_train, y_train, x_test, y_test = arrays
        orders = [*known, *(task.about.columns for task in tasks)]
        x_train, x_test, names = _examples(name, x_train, x_test, orders)
        if x_train.dtype != x_test.dtype:
            raise InputError(
                f"{name}: of x_train and x_test one is uint8 and the other is not: give both in "
                "one unit and as one dtype"
            )
        raw = consistent(name, x_train, y_train, x_test, y_test)
        if tasks and raw.x_train.shape[1:] != tasks[0].train.x.shape[1:]:
            raise InputError(
                f"{name}: examples of shape {raw.x_train.shape[1:]}, but those of task 0 have "
                f"{tasks[0].train.x.shape[1:]}: bring all to one shape"
            )
        mean, std = data.moments(name, raw.x_train)
        train, valid = hold_out(config, raw.x_train, raw.y_train)
        test = Split(raw.x_test, raw.y_test)
        about = About(raw.names or (), names, scale.of(train.x))
        task = Task(name, t, raw.classes, train, valid, test, mean, std)
        tasks.append(task._replace(about=about))
    return tasks


def _examples(
    task: str, x_train: Any, x_test: Any, orders: Sequence[tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Training and test examples "n h w c", and the names of their columns, () without names.

    The columns get the first of the `orders` that has the same names, else that of the task's
    training table.
    """
    x_train, names = columns.table(x_train, f"{task}: x_train")
    x_test, others = columns.table(x_test, f"{task}: x_test")
    first = next((o for o in orders if set(o) == set(names)), names)
    x_train, names = columns.ordered(x_train, names, first, f"{task}: x_train"), first
    x_test = columns.ordered(x_test, others, names, f"{task}: x_test")
    x_train = images(x_train, f"{task}: x_train", names)
    return x_train, images(x_test, f"{task}: x_test", names), names


def images(x: np.ndarray, where: str, names: tuple[str, ...] = ()) -> np.ndarray:
    """Examples as "n h w c": feature vectors "n d" become "n 1 1 d", grey images get a channel.

    Raises InputError, beginning with `where`, for other numbers of axes, and as data.raw.numbers
    and channels_last.
    """
    x = numbers(x, where, names)
    if x.ndim not in (2, 3, 4):
        raise InputError(
            f"{where} is of shape {x.shape}: expected images [n, height, width] or [n, height, "
            "width, channels], or feature vectors [n, d]"
        )
    channels_last(x.shape, where)
    return x[:, None, None] if x.ndim == 2 else x.reshape(*x.shape, *[1] * (4 - x.ndim))
