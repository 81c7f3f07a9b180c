"""Which classes the runs take for which, from their models and their test images."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

import hatjax
from hatjax import config as configs
from hatjax import data
from hatjax.analysis import models
from hatjax.data import tasks
from hatjax.errors import InputError, oneline
from hatjax.report.numbers import LINE
from hatjax.report.read import Record
from hatjax.types import Task
from hatjax.workdir import results


class Counts(NamedTuple):
    """The test images of a task, counted by their class and by the class that a run gives them."""

    record: Record
    task: str
    classes: tuple[str, ...]  # what they are called
    counts: np.ndarray  # "C C": [i, j] of class i are taken for class j


def count(records: Iterable[Record]) -> tuple[list[Counts], list[str]]:
    """The counts for every task of every finished run, in the order of the runs.

    Also a note for each reason why runs have none: their model, or their image set, is missing or
    another. Approaches that train nothing are passed over.
    """
    records = [r for r in records if r.finished]
    found: dict[Path, list[Counts]] = {}
    reasons: dict[str, list[str]] = {}
    for _, group in itertools.groupby(sorted(records, key=images), key=images):
        runs = list(group)
        try:
            there = {task.name: task for task in test_images(runs[0])}
        except (InputError, OSError) as error:
            reasons.setdefault(oneline(error), []).extend(str(r.where) for r in runs)
            continue
        for r in runs:
            try:
                found[r.where] = list(of_run(r, there))
            except InputError as error:
                reasons.setdefault(oneline(error), []).append(str(r.where))
    notes = [
        f"no confusion matrices of {', '.join(some[:8])}"
        f"{f' and {len(some) - 8} more' if len(some) > 8 else ''}: {reason}"
        for reason, some in reasons.items()
    ]
    return [c for r in records for c in found.get(r.where, ())], notes


def images(record: Record) -> str:
    """A text that runs of the same images and tasks have in common."""
    fields = configs.fields(record.config)
    mine = {k: fields[k] for k in sorted(fields) if k.startswith(("data.", "tasks.", "extends."))}
    return repr((record.config.experiment, record.config.fidelity, record.seed, mine))


def test_images(record: Record) -> list[Task]:
    """The tasks of a run and of those that it extends, made again from their image sets.

    They are looked for in the data root that the run had, then in the usual one; nothing is
    downloaded. Raises InputError if one is missing, or the tasks were given as arrays.
    """
    try:
        earlier = results.read_earlier(record.where)
    except ValueError as error:
        raise InputError(str(error)) from error
    return tasks.of_runs([with_root(config) for config in (*earlier, record.config)])


def with_root(config: ConfigDict) -> ConfigDict:
    """The configuration, with the data root that has its image sets. Raises InputError."""
    config = ConfigDict(config.to_dict())
    if config.tasks.kind != tasks.GIVEN:
        roots = list(dict.fromkeys((data.root(config.data.root), data.root(""))))
        places = [p for p in roots if all(data.available(name, p) for name in config.data.sets)]
        if not places:
            raise InputError(
                f"the image sets {', '.join(config.data.sets)} are not in "
                f"{' or '.join(map(str, roots))}: set $HATJAX_DATA to the data root that has them"
            )
        config.data.root = str(places[0])
    return config


def of_run(record: Record, there: dict[str, Task]) -> Iterator[Counts]:
    """The counts of a run for each task that it knows; `there` are the tasks by name.

    Raises InputError without a model, and if its accuracy is no longer that of its results.
    """
    model = models.load(record.where)
    if not model.approach.trained:
        return
    for t, name in enumerate(model.names):
        if not model.learned[t]:
            continue
        if name not in there:
            raise InputError(f"its image set no longer has the task {name!r}")
        x, y = there[name].test
        counts = np.asarray(hatjax.confusion(model, x, y, t))
        accuracy, before = np.trace(counts) / counts.sum(), record.acc[-1, t]
        # A batch of another size is summed in another order: a close call may change.
        if abs(accuracy - before) > 1 / len(y) + 0.005:
            raise InputError(
                f"its accuracy on task {name!r} is {accuracy:.1%} now and was {before:.1%} when it "
                "was trained, so its image set or its model has changed since"
            )
        yield Counts(record, name, tuple(map(str, hatjax.classes(model, t))), counts)


def pooled(every: Sequence[Counts]) -> dict[str, dict[str, Counts]]:
    """The counts of each label and task, summed over the seeds: {label: {task: counts}}."""
    found: dict[str, dict[str, Counts]] = {}
    for c in every:
        mine = found.setdefault(c.record.label, {})
        other = mine.get(c.task)
        mine[c.task] = c._replace(counts=other.counts + c.counts) if other else c
    return found


def frames(every: Sequence[Counts], identity: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Per-class accuracies, a row for each class of a task of a run; and all counts that are not 0.

    `identity` has the columns workdir, LINE and seed of the runs.
    """
    classes, pairs = [], []
    for c in every:
        run = {"workdir": str(c.record.where), "task": c.task}
        totals = c.counts.sum(axis=1)
        for i, name in enumerate(c.classes):
            share = c.counts[i, i] / totals[i] if totals[i] else np.nan
            classes.append(run | {"class": name, "images": totals[i], "accuracy": share})
        for i, j in np.argwhere(c.counts):
            taken = {"class": c.classes[i], "taken for": c.classes[j], "images": c.counts[i, j]}
            pairs.append(run | taken)
    who = identity[["workdir", *LINE, "seed"]]
    by_class = pd.DataFrame(classes, columns=["workdir", "task", "class", "images", "accuracy"])
    by_pair = pd.DataFrame(pairs, columns=["workdir", "task", "class", "taken for", "images"])
    return tuple(who.merge(f, on="workdir") for f in (by_class, by_pair))
