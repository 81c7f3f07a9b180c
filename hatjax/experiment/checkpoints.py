"""Checkpoints: all that a run that was cut off needs to go on as if nothing had been.

A workdir's checkpoints/ holds the newest two, each a folder TASKS-EPOCH: so many tasks are learned,
and so many epochs of the next one. In it are

    state/                        between tasks what model/ is, else train's State (orbax)
    accuracy.npy, loss.npy        "T T", as far as they are known
    metrics.jsonl                 the lines so far
    about.json                    configuration, fingerprints of the tasks, the runs of the same
                                  program, versions
    SHA256SUMS                    of all these files, as sha256sum writes and checks them

A folder is written under another name and renamed when it is whole. The seeds and settings of one
program save in turn, and older ones are removed only when all have saved, so that there is always a
position that all of them have.
"""

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import hatjax
from hatjax import config as configs
from hatjax.errors import InputError, oneline
from hatjax.training import keys
from hatjax.types import Tree
from hatjax.workdir import files, sums, trees

FOLDER = "checkpoints"
KEPT = 2  # the newest, and the one before in case it is damaged


class Position(NamedTuple):
    """How far a run is; positions compare as they follow each other."""

    tasks: int  # learned
    epoch: int  # of the next, trained

    def __str__(self) -> str:
        after = f", epoch {self.epoch}" if self.epoch else ""
        return f"task {self.tasks + bool(self.epoch)}{after}"


class About(NamedTuple):
    """What a checkpoint says of itself."""

    config: ConfigDict
    data: dict[str, str]  # the fingerprint of each task, by name
    group: list[str]  # the names of the workdirs of the runs of the same program
    versions: dict[str, str]  # of what the numbers depend on


class Standing(NamedTuple):
    """Where a run can go on."""

    whole: list[Position]  # the newest first
    damaged: list[Position]  # checkpoints that cannot be used
    group: list[str]  # the names of the workdirs of the runs of its program; [] without checkpoint


class Saved(NamedTuple):
    """What a checkpoint holds, on the host."""

    tree: Tree  # {"params", "memory"} or a State
    acc: np.ndarray  # "T T"
    loss: np.ndarray  # "T T"


def versions() -> dict[str, str]:
    """Of what the last bits of the numbers depend on."""
    return {
        "hatjax": hatjax.__version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def place(where: Path, at: Position) -> Path:
    """The folder of the checkpoint at a position, in the workdir `where`."""
    return where / FOLDER / f"{at.tasks:04d}-{at.epoch:05d}"


def positions(where: Path) -> list[Position]:
    """Of which the workdir `where` has checkpoints, damaged ones too; the newest first."""
    folder = where / FOLDER
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    found = (re.fullmatch(r"(\d{4,})-(\d{5,})", name) for name in names)
    return sorted((Position(int(m[1]), int(m[2])) for m in found if m), reverse=True)


def save(where: Path, at: Position, saved: Saved, about: About) -> None:
    """Write a checkpoint all at once. Raises OSError."""
    target = place(where, at)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        trees.save(part / "state", saved.tree)
        np.save(part / "accuracy.npy", saved.acc, allow_pickle=False)
        np.save(part / "loss.npy", saved.loss, allow_pickle=False)
        if (metrics := where / "metrics.jsonl").exists():
            shutil.copyfile(metrics, part / metrics.name)
        told = about._asdict() | {"config": about.config.to_dict()}
        (part / "about.json").write_text(json.dumps(told, indent=1))
        sums.write(part)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    finally:  # half a checkpoint on a full disk is of no use
        shutil.rmtree(part, ignore_errors=True)


def prune(where: Path) -> None:
    """Remove all but the newest two."""
    for old in positions(where)[KEPT:]:
        shutil.rmtree(place(where, old), ignore_errors=True)


def go_back(where: Path, at: Position) -> None:
    """Remove what is newer than the position `at`, and what was left half written."""
    for newer in positions(where):
        if newer > at:
            files.remove(place(where, newer))
    for part in (where / FOLDER).glob(".*.part"):
        files.remove(part)


def stand(where: Path) -> Standing:
    """Where a run can go on."""
    whole: list[Position] = []
    damaged: list[Position] = []
    for at in positions(where):
        (damaged if sums.altered(place(where, at)) else whole).append(at)
    return Standing(whole, damaged, about(where, whole[0]).group if whole else [])


def about(where: Path, at: Position) -> About:
    """What a whole checkpoint says of itself; InputError if it is not one of hatjax."""
    path = place(where, at) / "about.json"
    try:
        told = About(**json.loads(path.read_text()))
        if not isinstance(told.data, dict) or not isinstance(told.versions, dict):
            raise ValueError("fields of other types")
        config = configs.from_json(json.dumps(told.config))
        return told._replace(config=config, group=[str(name) for name in told.group])
    except (InputError, OSError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} was not written by hatjax ({oneline(error)}): begin anew with --overwrite"
        ) from error


def load(where: Path, at: Position, shapes: Tree) -> Saved:
    """What a whole checkpoint holds; `shapes` are those of its tree.

    metrics.jsonl in the workdir becomes what it was then. Raises InputError if the checkpoint
    cannot be read.
    """
    folder = place(where, at)
    try:
        acc, loss = (np.load(folder / f"{k}.npy", allow_pickle=False) for k in ("accuracy", "loss"))
        tree = trees.load(folder / "state", shapes)
    except Exception as error:  # orbax raises many kinds
        raise InputError(
            f"{folder} cannot be read ({oneline(error)}): it was written by another version of "
            "hatjax; begin anew with --overwrite"
        ) from error
    if (folder / "metrics.jsonl").exists():
        shutil.copyfile(folder / "metrics.jsonl", part := where / ".metrics.jsonl.part")
        os.replace(part, where / "metrics.jsonl")
    else:
        (where / "metrics.jsonl").unlink(missing_ok=True)
    return Saved(tree, acc, loss)


def remove(where: Path) -> None:
    """Remove the checkpoints of a run."""
    files.remove(where / FOLDER)


def packed(tree: Tree) -> Tree:
    """The tree with its random keys as plain numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, tree)


def unpacked(tree: Tree, like: Tree) -> Tree:
    """The inverse of `packed`; `like` is a tree with random keys in the same places."""
    return jax.tree.map(
        lambda x, k: jax.random.wrap_key_data(x, impl=keys.IMPLEMENTATION) if is_key(k) else x,
        tree,
        like,
    )


def is_key(x) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


class Clock:
    """Says after which epochs a checkpoint is due: every so many epochs, or minutes."""

    def __init__(self, epochs: int, minutes: float):
        self.epochs, self.seconds, self.last = epochs, 60 * minutes, time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether one is due when so many epochs of a task are trained."""
        by_number = self.epochs and epoch % self.epochs == 0
        late = self.seconds and time.monotonic() - self.last >= self.seconds
        return bool(by_number or late)

    def reset(self) -> None:
        """One has been saved."""
        self.last = time.monotonic()
