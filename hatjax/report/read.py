"""Runs on disk, finished or not, as records."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.errors import InputError, oneline
from hatjax.workdir import files, results


class Record(NamedTuple):
    """What a report takes from a workdir."""

    where: Path
    config: ConfigDict
    names: tuple[str, ...] = ()  # of the tasks as learned; () before they are known
    acc: np.ndarray = np.zeros((0, 0))  # "n n" of the tasks learned so far
    finished: bool = False
    epochs: tuple[dict, ...] = ()  # the lines of metrics.jsonl

    @property
    def approach(self) -> str:
        return self.config.approach.name

    @property
    def state(self) -> str:
        if self.finished:
            return "finished"
        learned = f"{len(self.acc)} of {len(self.names)} tasks" if self.names else "no task yet"
        return f"unfinished: {learned}"


def read_all(paths: Iterable[str | Path]) -> tuple[list[Record], list[str]]:
    """The runs in and below `paths`, each once, and a line for each that cannot be read.

    InputError for a path that is not there or has no run below it, or if not one run can be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not os.path.isdir(path):  # False, too, for a path that cannot be one
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
            record = read(where)
            records.append(record)
            records[-1] = record._replace(epochs=read_epochs(where))
        except InputError as error:
            notes.append(str(error))
    if not records:
        raise InputError(notes[0])
    return records, notes


def workdirs(path: Path) -> Iterator[Path]:
    """The folders in and below `path` that have a config.json; none inside another."""
    for folder, below, names in os.walk(path):
        if "config.json" in names:
            below.clear()
            yield Path(folder)
        below.sort()


def shortest(path: Path) -> Path:
    """An absolute path as a person would write it: from here, if it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def read(where: Path) -> Record:
    """The run in a workdir, without its epochs; InputError if a file of it is damaged."""
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
    acc, tasks = where / "accuracy.npy", where / "tasks.npz"
    record = Record(where, config, finished=(where / "done").exists())
    if not acc.exists() and not record.finished:
        return record._replace(names=read_names(tasks) if tasks.exists() else ())
    names = read_names(tasks)
    try:
        matrix = results.read_matrix(acc, len(names))
    except ValueError as error:
        raise damaged(acc, error) from error
    if np.any((matrix < 0) | (matrix > 1)):
        raise damaged(acc, f"expected {len(names)} x {len(names)} numbers from 0 to 1")
    # The rows of tasks that are not learned yet are 0.
    rows = np.flatnonzero(matrix.any(axis=1))
    learned = len(names) if record.finished else rows.max(initial=-1) + 1
    return record._replace(names=names, acc=matrix[:learned, :learned])


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the tasks, in the order in which they are learned."""
    try:
        return tuple(str(name) for name in results.read_tasks(path)["names"])
    except ValueError as error:
        raise damaged(path, error) from error


def read_epochs(where: Path) -> tuple[dict, ...]:
    """The lines of metrics.jsonl; InputError, naming the line, if one cannot be read.

    A last line without an end is one that a run is writing, and is left out.
    """
    path = where / "metrics.jsonl"
    try:
        return tuple(results.read_rows(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is damaged in {oneline(error)}: the report leaves out the course of this "
            "run's epochs"
        ) from error


def damaged(path: Path, reason: object) -> InputError:
    return InputError(
        f"{path} is damaged ({reason}): the report leaves this run out; run it again with "
        "--overwrite"
    )
