"""Copies of runs that hold what a report needs and no more: some kB, to be kept beside a paper."""

import json
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import numpy as np

from hatjax import config as configs
from hatjax.errors import InputError
from hatjax.report import read
from hatjax.report.read import Record
from hatjax.workdir import files

EPOCHS = 6  # that are kept of a task: the first, the last, and some between
DIGITS = 4  # of their numbers
COPIED = (
    "accuracy.npy", "loss.npy", "tasks.npz", "task_free.json", "versions.json", "earlier.json",
)  # fmt: skip


def copy_all(paths: Iterable[str | Path], to: Path) -> tuple[list[Path], list[str]]:
    """Copy the finished runs in and below `paths`, below `to`; returns the copies, and notes.

    A run keeps its place: DIR/mnist/hat of the path DIR becomes TO/mnist/hat. Its copy replaces one
    of the same configuration. The report of the copies is that of the runs, but for fewer epochs in
    its figures over epochs; they hold no model. Unfinished and damaged runs are left out, and so is
    a damaged file of another run, with a note for each. InputError as for a report, and if a folder
    cannot be written or holds anything else.
    """
    copies, notes = [], []
    for path in map(Path, paths):
        records, damage = read.read_all([path])
        notes += damage
        for record in records:
            if not record.finished:
                notes.append(f"{record.where} is left out: it is {record.state}")
                continue
            where = record.where.resolve()
            inside = where.relative_to(path.resolve())
            copies.append(to / (inside if inside.parts else Path(where.name)))
            if copies[-1].resolve() == where:
                raise InputError(f"{copies[-1]} is the run itself: copy it to another folder")
            copy(record, copies[-1])
    if not copies:
        raise InputError(f"no finished run to copy: {notes[0]}")
    return copies, notes


def copy(record: Record, to: Path) -> None:
    """Copy a run to the folder `to`; InputError if it cannot be written or holds another run."""
    config = record.config.copy_and_resolve_references()
    config.data.root = ""  # that of this machine
    files.check(to, config)
    with files.preparing(to):
        files.write_text(to / "config.json", configs.to_json(config))
        for name in COPIED:
            if (record.where / name).exists():
                shutil.copyfile(record.where / name, to / name)
        lines = "".join(json.dumps(row) + "\n" for row in thinned(record.epochs))
        files.write_text(to / "metrics.jsonl", lines)
        files.write_text(to / "done", "")


def thinned(rows: Iterable[dict]) -> list[dict]:
    """EPOCHS of the epochs of each task, with DIGITS digits."""
    kept = []
    for _, epochs in groupby(rows, key=lambda row: row["task"]):
        every = list(epochs)
        at = np.unique(np.linspace(0, len(every) - 1, EPOCHS).round().astype(int))
        kept += [{k: shortened(v) for k, v in every[i].items()} for i in at]
    return kept


def shortened(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
