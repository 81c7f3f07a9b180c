"""Runs begin, or go on from their checkpoint as if there had been no pause."""

from pathlib import Path
from typing import Any

import numpy as np

from hatjax import config as configs
from hatjax.errors import InputError
from hatjax.experiment import checkpoint
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.training import replicas, train
from hatjax.types import Approach
from hatjax.workdir import files, results


def begin_or_resume(
    inputs: Inputs, approach: Approach, program: train.Program
) -> tuple[Progress, list[str]]:
    """Where the runs of a program stand, and what a person should know of that.

    Raises InputError for a checkpoint of other settings or images, or one that cannot be read.
    """
    folder = checkpoint.folder_of(inputs.folder, inputs.names)

    def look() -> dict[str, Any]:
        number, damaged = checkpoint.newest(folder)
        notes = [f"checkpoint {path} is damaged: going back" for path in damaged]
        found = {"number": number, "damaged": [str(path) for path in damaged], "notes": notes}
        if number is None:
            if checkpoint.begun(folder):
                notes.append(f"no whole checkpoint is left in {folder}: beginning anew")
            return found
        about = checkpoint.read_about(folder, number)
        notes += check(folder / str(number), inputs, about)
        return found | {k: about[k] for k in ("task", "epoch", "diverged", "metrics")}

    def bring_back() -> None:
        """The workdirs hold what they held at the checkpoint; or nothing, without one."""
        for path in found["damaged"]:
            with files.writing(inputs.folder):
                files.remove(Path(path))
        for r, place in enumerate(inputs.places):
            with files.writing(place):
                if number is None:
                    files.clean(place)
                elif r not in progress.diverged:
                    files.remove(place / "done")
                    files.remove(place / "diverged")
                    files.write_text(place / "config.json", configs.to_json(inputs.configs[r]))
                    files.write_text(place / "metrics.jsonl", found["metrics"][r])
                if r not in progress.diverged:
                    results.write_tasks(place, inputs.tasks[r], inputs.fingerprints(r))

    found = replicas.told_by_first(look)
    number, notes = found["number"], found["notes"]
    if number is None:
        progress = begin(inputs, program)
    else:
        progress = checkpoint.restore(folder, number, inputs, approach, found)
        notes = [*notes, f"going on after {progress}"]
    replicas.by_first(bring_back)
    return progress, notes


def begin(inputs: Inputs, program: train.Program) -> Progress:
    """Before the first epoch of the first task."""
    params, memory = program.init(inputs.key(0))
    state = program.begin(params, memory, inputs.turn(0), inputs.key(1), inputs.hyper)
    acc, loss = np.zeros((2, inputs.count, inputs.total, inputs.total))
    return Progress(0, 0, state, acc, loss, {})


def check(where: Path, inputs: Inputs, about: dict[str, Any]) -> list[str]:
    """What a person should know of a checkpoint before its runs go on.

    Raises InputError if it is of other settings or other images than those of `inputs`.
    """
    if [*about["runs"]] != inputs.names:
        raise InputError(
            f"{where} is of the runs {', '.join(about['runs'])}, not of "
            f"{', '.join(inputs.names)}: begin anew with --overwrite"
        )
    for r, (config, data) in enumerate(zip(about["runs"].values(), about["data"], strict=True)):
        if other := files.differences(config, inputs.configs[r]):
            raise InputError(
                f"{where} is of another configuration ({'; '.join(other)}): begin "
                "anew with --overwrite"
            )
        results.same_tasks(inputs.places[r], data, inputs.fingerprints(r))
    now, then = checkpoint.versions(), about["versions"]
    return [
        f"the checkpoint was made with {k} {then.get(k)}, this is {now[k]}: the last digits of the "
        "results may differ from those of a run without a pause"
        for k in now
        if then.get(k) != now[k]
    ]
