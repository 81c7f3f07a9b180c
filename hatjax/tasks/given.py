"""Tasks from arrays that somebody has in memory."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data.raw import consistent
from hatjax.errors import InputError
from hatjax.tasks.holdout import hold_out
from hatjax.types import Split, Task


def make(config: ConfigDict, sets: Sequence[tuple]) -> list[Task]:
    """A task for each (x_train, y_train, x_test, y_test), in their order.

    As many training examples are held out as in the other experiments, and each task is normalised
    by the mean and standard deviation of its training images. Raises InputError, naming task and
    array, for what cannot be used.
    """
    tasks = []
    for t, arrays in enumerate(sets):
        name = f"task {t}"
        if len(arrays) != 4:
            raise InputError(
                f"{name}: {len(arrays)} arrays: expected (x_train, y_train, x_test, y_test)"
            )
        x_train, y_train, x_test, y_test = arrays
        raw = consistent(
            name,
            images(x_train, f"{name}: x_train"),
            y_train,
            images(x_test, f"{name}: x_test"),
            y_test,
        )
        mean, std = data.moments(name, raw.x_train)
        train, valid = hold_out(config, raw.x_train, raw.y_train)
        test = Split(raw.x_test, raw.y_test)
        tasks.append(Task(name, t, raw.classes, train, valid, test, mean, std))
    return tasks


def images(x: np.ndarray, where: str) -> np.ndarray:
    """Examples as "n h w c": feature vectors "n d" become "n d 1 1", grey images get a channel.

    uint8 stays, to take little memory; other numbers become float32. Raises InputError, beginning
    with `where`, for another number of axes, other dtypes, and what is not a finite number.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "buif" or x.ndim not in (2, 3, 4):
        raise InputError(
            f"{where} is {x.dtype} of shape {x.shape}: expected numbers, images [n, height, width] "
            "or [n, height, width, channels] or feature vectors [n, d]"
        )
    x = x if x.dtype == np.uint8 else x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError(f"{where} holds numbers that are not finite: leave those examples out")
    return x.reshape(*x.shape, *[1] * (4 - x.ndim))
