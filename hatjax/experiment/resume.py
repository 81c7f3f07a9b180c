"""Start the runs of a program, or resume them from their checkpoint."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from hatjax import config as configs
from hatjax.errors import InputError
from hatjax.experiment import checkpoint, extending
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.training import replicas, train
from hatjax.types import Approach
from hatjax.workdir import files, results, versions


def begin_or_resume(
    inputs: Inputs, approach: Approach, program: train.Program
) -> tuple[Progress, list[str]]:
    """The progress of a program, new or from its newest checkpoint, and notes for the user.

    Raises InputError for a checkpoint with other settings or images, or an unreadable one.
    """
    folder = checkpoint.folder_of(inputs.folder, inputs.names)
    found = replicas.told_by_first(lambda: read_newest(folder, inputs))
    if found["number"] is None:
        progress = begin(inputs, approach, program)
        notes = [*found["notes"], *extending.notes(inputs)]
    else:
        progress = checkpoint.restore(folder, found["number"], inputs, approach, found)
        notes = [*found["notes"], f"going on after {progress}"]
    replicas.by_first(lambda: notes.extend(reset_workdirs(inputs, progress, found)))
    return progress, notes


def read_newest(folder: Path, inputs: Inputs) -> dict[str, Any]:
    """What is read of the newest whole checkpoint in `folder`, besides its arrays.

    "number" is that of the checkpoint, None if there is none; "damaged" the paths of newer ones;
    "notes" is for the user. Raises InputError for one with other settings or images.
    """
    number, damaged = checkpoint.newest(folder)
    notes = [f"checkpoint {path} is damaged: going back" for path in damaged]
    found = {"number": number, "damaged": [str(path) for path in damaged], "notes": notes}
    if number is None:
        if checkpoint.exists(folder) or any(map(begun, inputs.places)):
            notes.append(f"no whole checkpoint is left in {folder}: beginning anew")
        return found
    about = checkpoint.read_about(folder, number)
    notes += check(folder / str(number), inputs, about)
    return found | {k: about.get(k) for k in ("task", "epoch", "diverged", "metrics", "energy")}


def reset_workdirs(inputs: Inputs, progress: Progress, found: dict[str, Any]) -> list[str]:
    """Reset the workdirs to their content at the checkpoint; empty them if there is none.

    `found` is what `read_newest` gives. Returns notes for the user.
    """
    for path in found["damaged"]:
        with files.writing(inputs.folder):
            files.remove(Path(path))
    notes = []
    for r, place in enumerate(inputs.places):
        with files.writing(place):
            if found["number"] is None:
                files.clean(place)
                extending.carry_over(inputs, r, place)
            elif r not in progress.diverged:
                files.remove(place / "done")
                files.remove(place / "diverged")
                files.write_text(place / "config.json", configs.to_json(inputs.configs[r]))
                files.write_text(place / "metrics.jsonl", found["metrics"][r])
            if r not in progress.diverged:
                results.write_tasks(place, inputs.tasks[r], inputs.fingerprints(r))
                earlier = extending.earlier_configs(inputs.configs[r], inputs.model)
                results.write_earlier(place, earlier)
                notes.append(versions.add(place))
    return [note for note in notes if note]


def begun(place: Path) -> bool:
    """Whether a workdir holds what an unfinished run has saved."""
    return os.path.exists(place / "metrics.jsonl") and not os.path.exists(place / "diverged")


def begin(inputs: Inputs, approach: Approach, program: train.Program) -> Progress:
    """The progress before the first epoch of the first task that is to be learned."""
    first, placement = inputs.first, inputs.placement
    acc, loss = np.zeros((2, inputs.count, inputs.total, inputs.total))
    energy = checkpoint.energies(inputs)
    if not first:
        params, memory = program.init(inputs.key(0))
    else:
        fresh = placement.fetch(program.init(inputs.key(extending.FRESH + first)))
        params, memory = placement.put(extending.grown(inputs, approach, fresh))
        for r in range(inputs.count):
            model = extending.before_of(inputs, r)
            acc[r, :first, :first], loss[r, :first, :first] = model.accuracy, model.loss
            if model.energy is not None:
                energy[r, :first] = model.energy
    turn, key = inputs.turn(first), inputs.key(first + 1)
    state = program.begin(params, memory, turn, key, inputs.hyper)
    return Progress(first, 0, state, acc, loss, {}, energy)


def check(where: Path, inputs: Inputs, about: dict[str, Any]) -> list[str]:
    """Notes for the user on a checkpoint from which runs resume.

    Raises InputError if its runs, settings or images are not those of `inputs`.
    """
    if [*about["runs"]] != inputs.names:
        raise InputError(
            f"{where} is of the runs {', '.join(about['runs'])}, not of "
            f"{', '.join(inputs.names)}: start over with --overwrite"
        )
    for r, (config, data) in enumerate(zip(about["runs"].values(), about["data"], strict=True)):
        if other := files.differences(config, inputs.configs[r]):
            raise InputError(
                f"{where} is of another configuration ({'; '.join(other)}): start "
                "over with --overwrite"
            )
        results.same_tasks(inputs.places[r], data, inputs.fingerprints(r))
    now, then = checkpoint.versions(), about["versions"]
    return [
        f"the checkpoint was made with {k} {then.get(k)}, this is {now[k]}: the last digits of the "
        "results may differ from those of an uninterrupted run"
        for k in now
        if then.get(k) != now[k]
    ]
