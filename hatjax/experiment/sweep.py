"""A sweep: runs that differ in their seeds and settings, and which of them train in one program.

Its folder holds a folder for each run, and

    plan.json       [[name, ...], ...]: the runs that train together, by program, as decided when
                    they began
    checkpoints/    of each program that has not finished (experiment.checkpoint), in a folder with
                    the name of its first run

Runs go on with those that they began with, since that makes their results the same to the bit. A
program of one run keeps its checkpoints in the folder of that run.
"""

import contextlib
import json
from collections.abc import Set
from pathlib import Path

from filelock import FileLock
from ml_collections import ConfigDict

from hatjax.errors import InputError, oneline
from hatjax.experiment import checkpoint
from hatjax.workdir import files

PLAN = "plan.json"


def plan(folder: Path, names: list[str], most: int, at_once: int) -> list[list[str]]:
    """The runs that train together, by program, so that all of `names` are trained.

    What has begun goes on as it is, also with runs that are not among `names`; the others begin,
    at most `most` together. A program that was stopped before its first checkpoint begins again
    with the same runs, unless `at_once` (0: any number) allows fewer. Raises OSError.
    """
    if names == [""]:
        return [names]
    with FileLock(folder / ".plan.lock"):
        known = read_plan(folder)
        lone = [name for name in names if alone(folder, name)]
        rest = [name for name in names if name not in lone]
        together = [
            group
            for group in known
            if not set(group).isdisjoint(rest)
            and (
                checkpoint.begun(checkpoint.folder_of(folder, group))
                or (set(group) <= set(rest) and (not at_once or len(group) <= at_once))
            )
        ]
        rest = [name for name in rest if not any(name in group for group in together)]
        new = [rest[i : i + most] for i in range(0, len(rest), most)]
        old = [[name for name in group if name not in rest] for group in known]
        write_plan(folder, [*filter(None, old), *new])
    programs = [*together, *([name] for name in lone), *new]
    return sorted(programs, key=lambda group: min(names.index(n) for n in group if n in names))


def alone(folder: Path, name: str) -> bool:
    """Whether a run has checkpoints of its own: it was alone, or its loss became no number."""
    return checkpoint.begun(folder / name / checkpoint.FOLDER)


def forget(folder: Path, names: Set[str]) -> None:
    """The runs `names` begin anew: remove the checkpoints of all programs that they belong to.

    Raises OSError.
    """
    if "" in names:
        return
    with FileLock(folder / ".plan.lock"):
        known = read_plan(folder)
        for group in known:
            if len(group) > 1 and not names.isdisjoint(group):
                remove(checkpoint.folder_of(folder, group))
        left = [[name for name in group if name not in names] for group in known]
        write_plan(folder, [*filter(None, left)])


def saved_configs(folder: Path, names: list[str]) -> dict[str, ConfigDict]:
    """The configurations of the runs `names`, which have begun together; InputError if damaged."""
    where = checkpoint.folder_of(folder, names)
    number, _ = checkpoint.newest(where)
    if number is not None:
        return checkpoint.read_about(where, number)["runs"]
    return {name: files.read_config(folder / name) for name in names}


def tidy(folder: Path, names: list[str]) -> None:
    """Remove checkpoints that finished runs have left, as when one is killed at its very end.

    Raises InputError if another process trains there, or they cannot be removed.
    """
    for group in [[name] for name in names] + ([] if names == [""] else read_plan(folder)):
        where = checkpoint.folder_of(folder, group)
        if checkpoint.begun(where) and all((folder / name / "done").exists() for name in group):
            with files.locked(folder / group[0]), files.preparing(folder):
                remove(where)


def remove(where: Path) -> None:
    """Remove the folder of a program's checkpoints, and that of a sweep's if it is empty now."""
    files.remove(where)
    with contextlib.suppress(OSError):
        if where.parent.name == checkpoint.FOLDER:
            where.parent.rmdir()


def read_plan(folder: Path) -> list[list[str]]:
    """What stands in the sweep's plan.json; [] where there is none. InputError if it is damaged."""
    path = folder / PLAN
    try:
        found = json.loads(path.read_text()) if path.exists() else []
        if not isinstance(found, list) or not all(
            isinstance(group, list) and group and all(map(is_name, group)) for group in found
        ):
            raise ValueError("not a list of lists of names")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({oneline(error)}): remove it, and the unfinished runs of this "
            "sweep begin anew"
        ) from error
    return found


def is_name(name: object) -> bool:
    """Whether `name` can be that of a run's folder in a sweep's: a path would lead out of it."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def write_plan(folder: Path, programs: list[list[str]]) -> None:
    rows = ",\n".join(f" {json.dumps(group)}" for group in programs)
    files.write_text(folder / PLAN, f"[\n{rows}\n]\n" if rows else "[]\n")
