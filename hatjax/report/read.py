"""Read runs from disk, finished or not."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.errors import InputError, oneline
from hatjax.report import settings
from hatjax.report.names import words
from hatjax.workdir import files, results, versions


@dataclass(frozen=True, eq=False)
class Record:
    """What a report needs from a workdir."""

    where: Path
    config: ConfigDict
    names: tuple[str, ...] = ()  # of the tasks, in learning order; () if not known yet
    acc: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # "n n", of n learned tasks
    finished: bool = False
    tests: tuple[str, ...] = ()  # the fingerprints of their test examples; older runs have none
    earlier: tuple[ConfigDict, ...] = ()  # the configurations of the runs that this one extends
    diverged: str = ""  # why its loss is not a number
    epochs: tuple[dict, ...] = ()  # the lines of metrics.jsonl
    # The shares that are right without being told the task (results.read_task_free); {} if unknown
    task_free: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    versions: tuple[dict[str, str], ...] = ()  # the entries of versions.json; older runs have none

    @property
    def approach(self) -> str:
        return self.config.approach.name

    @property
    def seed(self) -> int:
        return self.config.seed

    @cached_property
    def _different(self) -> tuple[dict[str, object], dict[str, object]]:
        return settings.different(self.config)

    @cached_property
    def _before(self) -> tuple[dict[str, object], dict[str, object]]:
        return settings.before(self.config, self.earlier)

    @property
    def _arrays(self) -> dict[str, object]:
        """A fingerprint of the test examples of the tasks that were given as arrays, if any."""
        runs = [self.config, *reversed(self.earlier)]
        ends = np.cumsum(self.config.extends.tasks, dtype=int)
        tests = np.split(np.array(self.tests, str), ends)[::-1]  # of the tasks of each run
        pairs = zip(runs, tests, strict=False)
        given = "".join("".join(own) for c, own in pairs if c.tasks.kind == "given")
        return {"data.arrays": hashlib.sha256(given.encode()).hexdigest()[:6]} if given else {}

    @cached_property
    def setting(self) -> dict[str, object]:
        """What differs from the defaults in the fields that all approaches share.

        And what no field tells: which arrays were given, and from which runs it goes on.
        """
        return self._different[0] | self._before[0] | self._arrays

    @cached_property
    def variant(self) -> dict[str, object]:
        """What differs from the defaults in the approach's own fields.

        And which tasks, counted from 1, it has forgotten on purpose.
        """
        gone = tuple(str(t + 1) for a in self.acc[-1:] for t in np.flatnonzero(np.isnan(a)))
        return self._different[1] | self._before[1] | ({"forgotten": gone} if gone else {})

    @property
    def label(self) -> str:
        """The approach, and its variant: "hat (c=0.1)"."""
        return self.approach + (f" ({words(self.variant)})" if self.variant else "")

    @property
    def state(self) -> str:
        if self.finished:
            return "finished"
        learned = f"{len(self.acc)} of {len(self.names)} tasks" if self.names else "no task yet"
        return f"{'diverged' if self.diverged else 'unfinished'}: {learned}"


def read_all(paths: Iterable[str | Path]) -> tuple[list[Record], list[str]]:
    """Read the runs in and below `paths`, each once; returns them, and a note per damaged file.

    InputError for a path that does not exist or has no run below it, or if no run can be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not os.path.isdir(path):  # also False for an invalid path
            raise InputError(f"there is no folder {path}: give workdirs, or folders of them")
        below = {where.resolve(): None for where in workdirs(path)}
        if not below:
            raise InputError(
                f"{path} holds no run of hatjax: there is no config.json in it or below it; give "
                "the --workdir of a run, or a folder of them"
            )
        found |= below
    records, notes = [], []
    for where in map(shortest, found):
        try:
            record, damage = read(where)
        except InputError as error:
            notes.append(str(error))
        else:
            records.append(record)
            notes += damage
    if not records:
        raise InputError(notes[0])
    return records, notes


def workdirs(path: Path) -> Iterator[Path]:
    """The folders in and below `path` with a config.json, without those inside another one."""
    for folder, below, names in os.walk(path):
        if "config.json" in names:
            below.clear()
            yield Path(folder)
        below.sort()


def shortest(path: Path) -> Path:
    """An absolute path, made relative if it is below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def read(where: Path) -> tuple[Record, list[str]]:
    """Read the run in a workdir; returns it, and a note for each damaged file that is left out.

    These are metrics.jsonl, task_free.json and versions.json. InputError for another damaged file.
    """
    record = Record(where, read_config(where), *read_accuracies(where))
    try:
        record = replace(record, earlier=results.read_earlier(where))
    except ValueError as error:
        raise InputError(f"{error}: the report leaves this run out") from error
    notes = []
    path = where / "metrics.jsonl"
    try:
        record = replace(record, epochs=tuple(results.read_rows(path)))
    except (OSError, ValueError) as error:
        notes.append(
            f"{path} is damaged in {oneline(error)}: the report leaves out the epochs of this run"
        )
    try:
        record = replace(record, task_free=results.read_task_free(where))
    except ValueError as error:
        notes.append(f"{error}: the report leaves out how this run does without the task")
    try:
        record = replace(record, versions=tuple(versions.read(where)))
    except ValueError as error:
        notes.append(f"{error}: the report does not know what this run was trained with")
    if not record.finished:
        record = replace(record, diverged=results.read_diverged(where))
    return record, notes


def read_config(where: Path) -> ConfigDict:
    """The configuration of a run; InputError if it is damaged, or not that of a run."""
    config = files.read_config(where)
    needed = ("experiment", "seed", "data.sets", "tasks.kind", "network.name", "approach.name")
    fields = configs.fields(config)
    kinds = {"seed": int, "data.sets": tuple}
    if absent := [k for k in needed if not isinstance(fields.get(k), kinds.get(k, str))]:
        raise InputError(
            f"{where / 'config.json'} is not that of a run of hatjax (it has no {absent[0]}): "
            "leave the folder out"
        )
    try:
        configs.check(config)
    except InputError as error:
        raise InputError(f"{where} cannot be read: {error}") from error
    return config


def read_accuracies(where: Path) -> tuple[tuple[str, ...], np.ndarray, bool, tuple[str, ...]]:
    """The names of the tasks, the accuracies "n n" of the n learned ones, and whether that is all.

    And the fingerprints of the tasks' test examples. InputError if a file is damaged.
    """
    path, finished = where / "tasks.npz", (where / "done").exists()
    names: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    acc = np.zeros((0, 0))
    try:
        if path.exists() or (where / "accuracy.npy").exists() or finished:
            tasks = results.read_tasks(path)
            names, tests = (tuple(map(str, tasks.get(k, ()))) for k in ("names", "tests"))
        path = where / "accuracy.npy"
        if path.exists() or finished:
            acc = results.read_matrix(path, len(names))
        if np.any((acc < 0) | (acc > 1)):
            raise ValueError(f"expected {len(names)} x {len(names)} numbers from 0 to 1")
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({error}): the report leaves this run out; run it again with "
            "--overwrite"
        ) from error
    # The rows of tasks that are not learned yet are 0.
    rows = np.flatnonzero(acc.any(axis=1))
    learned = len(names) if finished else rows.max(initial=-1) + 1
    return names, acc[:learned, :learned], finished, tests
