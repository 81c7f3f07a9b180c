"""Permuted images: every task is the same image set, its pixels in another fixed order."""

from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data import Raw, memory
from hatjax.data.tasks.holdout import hold_out, order
from hatjax.errors import InputError
from hatjax.types import Split, Task


def make(config: ConfigDict, sets: Iterable[tuple[str, Raw]]) -> list[Task]:
    """config.tasks.count permutations of one image set; the images are shared by all tasks."""
    if len(config.data.sets) != 1:
        raise InputError(
            f"config.data.sets = {tuple(config.data.sets)}: permuted tasks need exactly one name"
        )
    ((name, raw),) = sets
    train, valid = hold_out(config, raw.x_train, raw.y_train)
    test = Split(raw.x_test, raw.y_test)
    mean, std = data.moments(name, raw.x_train)
    pixels = permutations(config, raw.x_train[0].size)
    return [
        Task(f"{name} permuted {i}", i, raw.classes, train, valid, test, mean, std, p)
        for i, p in enumerate(pixels)
    ]


def permutations(config: ConfigDict, size: int) -> list[np.ndarray]:
    """A pixel order "size" for every task, from the seed alone; InputError if memory lacks.

    The published code seeds the i-th with 100 r_i + i, r the task order of the seed, and keeps it
    on disk: later runs with other seeds then get the first run's. "code" is what a first run gets.
    """
    count = config.tasks.count
    memory.fits(
        8 * size * count,
        f"config.tasks.count = {count}: so many orders of {size} numbers an image",
        "choose fewer tasks",
    )
    if config.fidelity == "code":
        seeds = [100 * int(r) + i for i, r in enumerate(order(count, config.seed))]
        return [np.random.RandomState(s).permutation(size) for s in seeds]
    return [np.random.default_rng([config.seed, i]).permutation(size) for i in range(count)]
