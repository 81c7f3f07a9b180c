"""Workdirs that hold the same results to the bit."""

from pathlib import Path

import jax
import numpy as np

from hatjax.analysis import models


def same(one: Path, other: Path) -> None:
    """The results of two workdirs are the same bits, and nothing else is left."""
    names = ["metrics.jsonl", "accuracy.npy", "loss.npy", "accuracy.txt", "done"]
    names += [name for name in ("energy.npy", "task_free.json") if (one / name).exists()]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = models.load(one), models.load(other)
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.memory), (b.params, b.memory))
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}


def all_the_same(one: Path, other: Path) -> None:
    """So are all runs in and below two folders, and what a sweep has beside them."""
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    places = [p.parent.relative_to(one) for p in sorted(one.rglob("config.json"))]
    assert places
    for place in places:
        same(one / place, other / place)
