"""Fingerprints of tasks, to detect changed images or labels."""

import hashlib
from collections.abc import Sequence

import numpy as np

from hatjax.data import lazy
from hatjax.types import Task


def fingerprints(tasks: Sequence[Task]) -> dict[str, str]:
    """The SHA-256 of the arrays of each task, by the name of the task."""
    known: dict[int, bytes] = {}  # id -> digest; tasks share arrays

    def of(x: np.ndarray) -> bytes:
        if id(x) not in known:
            known[id(x)] = digest(x)
        return known[id(x)]

    def whole(task: Task) -> str:
        arrays = (*task.train, *task.valid, *task.test, task.mean, task.std)
        arrays += () if task.pixels is None else (task.pixels,)
        return hashlib.sha256(b"".join(map(of, arrays))).hexdigest()

    return {task.name: whole(task) for task in tasks}


def digest(x: np.ndarray) -> bytes:
    """The SHA-256 of an array's shape, dtype and content."""
    hashed = hashlib.sha256(f"{x.shape} {x.dtype.str}".encode())
    for some in lazy.blocks(x) if x.ndim == 4 else [x]:
        if x.ndim == 4 and not x.strides[-1]:  # grey images repeated over the channels
            some = some[..., :1]
        hashed.update(np.ascontiguousarray(some).data)
    return hashed.digest()
