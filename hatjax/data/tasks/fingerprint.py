"""Fingerprints of tasks, to detect changed images or labels."""

import hashlib
from collections.abc import Sequence

import numpy as np

from hatjax.data import lazy
from hatjax.types import Task


def fingerprints(tasks: Sequence[Task]) -> dict[str, str]:
    """The SHA-256 of the arrays of each task, by the name of the task."""
    each = [(*task.train, *task.valid, *task.test, task.mean, task.std) for task in tasks]
    return _of(tasks, each)


def of_tests(tasks: Sequence[Task]) -> dict[str, str]:
    """The SHA-256 of what each task is tested on, by the name of the task.

    Equal ones are of the same task, whatever was held out of its training images.
    """
    return _of(tasks, [task.test for task in tasks])


def _of(tasks: Sequence[Task], arrays: Sequence[tuple]) -> dict[str, str]:
    """The SHA-256 of some arrays of each task and of its pixel order."""
    known: dict[int, bytes] = {}  # id -> digest; tasks share arrays

    def of(x: np.ndarray) -> bytes:
        if id(x) not in known:
            known[id(x)] = digest(x)
        return known[id(x)]

    def whole(task: Task, mine: tuple) -> str:
        mine = (*mine, *(() if task.pixels is None else (task.pixels,)))
        return hashlib.sha256(b"".join(map(of, mine))).hexdigest()

    return {task.name: whole(task, mine) for task, mine in zip(tasks, arrays, strict=True)}


def digest(x: np.ndarray) -> bytes:
    """The SHA-256 of an array's shape, dtype and content."""
    hashed = hashlib.sha256(f"{x.shape} {x.dtype.str}".encode())
    for some in lazy.blocks(x) if x.ndim == 4 else [x]:
        if x.ndim == 4 and not x.strides[-1]:  # grey images repeated over the channels
            some = some[..., :1]
        hashed.update(np.ascontiguousarray(some).data)
    return hashed.digest()
