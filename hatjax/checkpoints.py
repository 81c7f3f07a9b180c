"""Checkpoints: all that a run that was cut off needs to go on as if nothing had been.

A workdir's checkpoints/ holds the newest two, each a folder TASKS-EPOCH: so many tasks are learned,
and so many epochs of the next one. In it are

    state/                        between tasks what model/ is, else train's State (orbax)
    accuracy.npy, loss.npy        "T T", as far as they are known
    metrics.jsonl                 the lines so far
    about.json                    fingerprints of the tasks, the runs of the same program, versions
    SHA256SUMS                    of all these files, as sha256sum writes and checks them

A folder is written under another name and renamed when it is whole. The seeds and settings of one
program save in turn, so that there is always a position that all of them have.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import hatjax
from hatjax import keys, sums, trees
from hatjax.errors import InputError, oneline
from hatjax.types import Tree

FOLDER = "checkpoints"
KEPT = 2  # the newest, and one more lest it be damaged


class Position(NamedTuple):
    """How far a run is; positions compare as they follow each other."""

    tasks: int  # learned
    epoch: int  # of the next, trained

    def __str__(self) -> str:
        after = f", epoch {self.epoch}" if self.epoch else ""
        return f"task {self.tasks + bool(self.epoch)}{after}"


class About(NamedTuple):
    """What a checkpoint says of itself."""

    data: dict[str, str]  # the fingerprint of each task, by name
    group: list[str]  # the names of the workdirs of the runs of the same program
    versions: dict[str, str]  # of what the numbers depend on


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
    found = (re.fullmatch(r"(\d{4})-(\d{5})", name) for name in names)
    return sorted((Position(int(m[1]), int(m[2])) for m in found if m), reverse=True)


def save(where: Path, at: Position, saved: Saved, about: About) -> None:
    """Write a checkpoint all at once, and remove all but the newest two. Raises OSError."""
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
        (part / "about.json").write_text(json.dumps(about._asdict(), indent=1))
        sums.write(part)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    finally:  # half a checkpoint on a full disk is of no use
        shutil.rmtree(part, ignore_errors=True)
    for old in positions(where)[KEPT:]:
        shutil.rmtree(place(where, old), ignore_errors=True)


def newest(wheres: Sequence[Path]) -> tuple[Position | None, list[Path]]:
    """The newest position of which every workdir has a whole checkpoint, and damaged ones after it.

    None if there is no such position.
    """
    damaged: list[Path] = []
    common = set.intersection(*(set(positions(where)) for where in wheres))
    for at in sorted(common, reverse=True):
        bad = [folder for where in wheres if sums.altered(folder := place(where, at))]
        if not bad:
            return at, damaged
        damaged += bad
    return None, damaged


def about(where: Path, at: Position) -> About:
    """What a whole checkpoint says of itself; InputError if it is not one of hatjax."""
    path = place(where, at) / "about.json"
    try:
        told = About(**json.loads(path.read_text()))
        if not (isinstance(told.data, dict) and isinstance(told.versions, dict)):
            raise ValueError("fields of other types")
        return told._replace(group=[str(name) for name in told.group])
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} was not written by hatjax ({oneline(error)}): begin anew with --overwrite"
        ) from error


def group(where: Path) -> list[str]:
    """The runs that the newest whole checkpoint's program trained; none if there is none."""
    at, _ = newest([where])
    return [] if at is None else about(where, at).group


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
    shutil.rmtree(where / FOLDER, ignore_errors=True)


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
