"""A sweep: runs that differ in seeds and settings, and which of them train in one program.

Its folder holds a workdir for each run, and

    plan.json       [[name, ...], ...]: the runs of each program, as decided at their start
    checkpoints/    for each unfinished program, a folder with the name of its first run
                    (experiment.checkpoint)

Runs resume in the program in which they started, for bit-identical results. A program of one run
keeps its checkpoints in the workdir of that run.
"""

import contextlib
import json
from collections.abc import Set
from pathlib import Path

from filelock import FileLock
from ml_collections import ConfigDict

from hatjax.data import reading
from hatjax.errors import InputError, oneline
from hatjax.experiment import checkpoint
from hatjax.workdir import files

PLAN = "plan.json"


def plan(folder: Path, names: list[str], max_runs: int, at_once: int) -> list[list[str]]:
    """Assign the runs `names` to programs, and write plan.json.

    Programs that have started stay as they are, even with runs that are not in `names`; new ones
    have at most `max_runs` runs. A program that stopped before its first checkpoint starts again
    with the same runs, unless it has more than `at_once` (0: no limit). Raises OSError.
    """
    if names == [""]:
        return [names]
    with FileLock(folder / ".plan.lock"):
        known = read_plan(folder)
        lone = [name for name in names if has_own_checkpoint(folder, name)]
        rest = [name for name in names if name not in lone]
        together = [
            group
            for group in known
            if not set(group).isdisjoint(rest)
            and (
                checkpoint.exists(checkpoint.folder_of(folder, group))
                or (set(group) <= set(rest) and (not at_once or len(group) <= at_once))
            )
        ]
        rest = [name for name in rest if not any(name in group for group in together)]
        new = [rest[i : i + max_runs] for i in range(0, len(rest), max_runs)]
        old = [[name for name in group if name not in rest] for group in known]
        write_plan(folder, [*filter(None, old), *new])
    programs = [*together, *([name] for name in lone), *new]
    return sorted(programs, key=lambda group: min(names.index(n) for n in group if n in names))


def has_own_checkpoint(folder: Path, name: str) -> bool:
    """Whether a run has checkpoints in its workdir: it trained alone, or it diverged."""
    return checkpoint.exists(folder / name / checkpoint.FOLDER)


def discard(folder: Path, names: Set[str]) -> None:
    """Let the runs `names` start over: remove them from plan.json, and their programs' checkpoints.

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
    """The configurations of the runs of a started program; InputError if a file is damaged."""
    where = checkpoint.folder_of(folder, names)
    number, _ = checkpoint.newest(where)
    if number is not None:
        return checkpoint.read_about(where, number)["runs"]
    return {name: files.read_config(folder / name) for name in names}


def tidy(folder: Path, names: list[str]) -> None:
    """Remove checkpoints of finished runs, which a kill at the very end leaves behind.

    Raises InputError if another process trains there, or they cannot be removed.
    """
    for group in [[name] for name in names] + ([] if names == [""] else read_plan(folder)):
        where = checkpoint.folder_of(folder, group)
        if checkpoint.exists(where) and all((folder / name / "done").exists() for name in group):
            with files.locked(folder / group[0]), files.preparing(folder):
                remove(where)


def remove(where: Path) -> None:
    """Remove a program's checkpoints, and the sweep's folder of checkpoints if it is then empty."""
    files.remove(where)
    with contextlib.suppress(OSError):
        if where.parent.name == checkpoint.FOLDER:
            where.parent.rmdir()


def read_plan(folder: Path) -> list[list[str]]:
    """Read plan.json; [] if it does not exist. Raises InputError if it is damaged."""
    path = folder / PLAN
    try:
        found = json.loads(reading.text(path)) if path.exists() else []
        if not isinstance(found, list) or not all(
            isinstance(group, list) and group and all(map(is_name, group)) for group in found
        ):
            raise ValueError("not a list of lists of names")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged ({oneline(error)}): remove it, and the unfinished runs of this "
            "sweep start over"
        ) from error
    return found


def is_name(name: object) -> bool:
    """Whether `name` is a plain folder name, and no path that leads out of the sweep's folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def write_plan(folder: Path, programs: list[list[str]]) -> None:
    rows = ",\n".join(f" {json.dumps(group)}" for group in programs)
    files.write_text(folder / PLAN, f"[\n{rows}\n]\n" if rows else "[]\n")
