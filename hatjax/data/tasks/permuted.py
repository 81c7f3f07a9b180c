"""Permuted images: each task is the same image set with its own fixed permutation of pixels."""

import functools
from collections.abc import Iterable

import numpy as np
from ml_collections import ConfigDict

from hatjax import data
from hatjax.data import Raw, memory, scale
from hatjax.data.tasks.holdout import hold_out, order
from hatjax.errors import InputError
from hatjax.fidelity import departures
from hatjax.types import About, Split, Task


def make(config: ConfigDict, sets: Iterable[tuple[str, Raw]]) -> list[Task]:
    """config.tasks.count permutations of one image set; all tasks share the images."""
    if len(config.data.sets) != 1:
        raise InputError(
            f"config.data.sets = {tuple(config.data.sets)}: permuted tasks need exactly one name"
        )
    ((name, raw),) = sets
    train, valid = hold_out(config, raw.x_train, raw.y_train)
    test = Split(raw.x_test, raw.y_test)
    mean, std = data.moments(name, raw.x_train)
    about = About(raw.names or (), scale=scale.of(train.x))
    moments = functools.partial(permuted_moments, mean, std)
    return [
        Task(f"{name} permuted {i}", i, raw.classes, train, valid, test, *moments(p), p, about)
        for i, p in enumerate(permutations(config, raw.x_train[0].size))
    ]


def permuted_moments(
    mean: np.ndarray, std: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation "c" of images once their `pixels` are permuted.

    Features of a vector take theirs along. The channels of a coloured image are mixed with one
    another, so all get the moments of all its numbers.
    """
    if len(pixels) == len(mean):
        return mean[pixels], std[pixels]
    if len(mean) == 1:
        return mean, std
    whole = np.mean(mean, dtype=float)
    deviation = np.sqrt(np.mean(std.astype(float) ** 2 + (mean - whole) ** 2))
    return np.full_like(mean, whole), np.full_like(std, deviation)


def permutations(config: ConfigDict, size: int) -> list[np.ndarray]:
    """A permutation "size" of the pixels for each task; InputError if they do not fit into memory.

    They depend on the seed only. The published code seeds permutation i with 100 r_i + i, r being
    the seed's task order, and caches it on disk, so that runs with other seeds reuse it. Fidelity
    "code" gives what a run without that cache gets.
    """
    count = config.tasks.count
    memory.fits(
        8 * size * count,
        f"config.tasks.count = {count}: that many permutations of {size} pixels",
        "choose fewer tasks",
    )
    if not departures(config).own_permutations:
        seeds = [100 * int(r) + i for i, r in enumerate(order(count, config.seed))]
        return [np.random.RandomState(s).permutation(size) for s in seeds]
    return [np.random.default_rng([config.seed, i]).permutation(size) for i in range(count)]
