"""Progress of the runs of one program: create, restore, save.

A program is one compiled training loop for one or more runs. It resumes from a checkpoint with
bit-identical results. An Orbax CheckpointManager keeps the newest two, each written atomically:

    state/        types.State of all runs, and their accuracies and losses
    about/        JSON: task and epoch; for each run its configuration, the fingerprints of its
                  tasks and its metrics.jsonl so far; diverged runs; versions
    SHA256SUMS    checksums of these files
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import hatjax
from hatjax import config as configs
from hatjax.errors import InputError, oneline
from hatjax.experiment.inputs import Inputs
from hatjax.training import keys, replicas, train
from hatjax.types import Approach, State, Tree, Turn
from hatjax.workdir import files, results, trees

FOLDER = "checkpoints"
KEPT = 2  # the newest, and one more in case it is damaged


@dataclass
class Progress:
    """The progress of the runs of a program, updated as they train."""

    task: int  # being learned, from 0; the number of tasks when all are learned
    epoch: int  # epochs of this task trained so far
    state: State  # "R ...", on the devices
    acc: np.ndarray  # "R T T"
    loss: np.ndarray  # "R T T"
    diverged: dict[int, str]  # run -> why its loss is not finite
    energy: np.ndarray  # "R T 2", of each task learned (experiment.task_free), else NaN

    def active(self) -> list[int]:
        """The runs that have not diverged."""
        return [r for r in range(len(self.acc)) if r not in self.diverged]

    def __str__(self) -> str:
        if not self.task and not self.epoch:
            return "the initial parameters"
        after = f", epoch {self.epoch}" if self.epoch else ""
        return f"task {self.task + bool(self.epoch)}{after}"


def versions() -> dict[str, str]:
    """The versions and the device, on which the last bits of the results depend."""
    return {
        "hatjax": hatjax.__version__,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def folder_of(folder: Path, names: list[str]) -> Path:
    """The checkpoint folder of the program of the runs `names` of the sweep in `folder`."""
    if len(names) == 1:
        return folder / names[0] / FOLDER
    return folder / FOLDER / names[0]


def save(inputs: Inputs, progress: Progress, only: int | None = None) -> None:
    """Save a checkpoint of a program.

    With `only`, save that run alone, so that it can resume by itself. Every process takes part; one
    writes. Raises Unwritable.
    """
    runs = list(range(inputs.count)) if only is None else [only]
    state = inputs.placement.fetch(packed(progress.state))
    if not replicas.writes():
        return
    arrays = {
        "state": jax.tree.map(lambda x: np.asarray(x)[runs], state),
        "accuracy": progress.acc[runs],
        "loss": progress.loss[runs],
    }
    names, diverged = [inputs.names[r] for r in runs], progress.diverged
    about = {
        "task": progress.task,
        "epoch": progress.epoch,
        "runs": {inputs.names[r]: inputs.configs[r].to_dict() for r in runs},
        "data": [inputs.fingerprints(r) for r in runs],
        "metrics": [results.read_metrics(inputs.places[r]) for r in runs],
        # A run that is saved alone is not marked as diverged: it tries again when it resumes.
        "diverged": {inputs.names[r]: diverged[r] for r in runs if r in diverged and len(runs) > 1},
        "versions": versions(),
        "energy": progress.energy[runs].tolist(),
    }
    with files.writing(inputs.folder if only is None else inputs.places[only]):
        folder = folder_of(inputs.folder, names)
        number = max(numbers(folder), default=-1) + 1
        trees.add_checkpoint(folder, number, KEPT, arrays, about)


def numbers(folder: Path) -> list[int]:
    """The numbers of the checkpoints in `folder`, newest first."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def exists(folder: Path) -> bool:
    """Whether `folder` holds any checkpoint, even a damaged one."""
    return bool(folder.is_dir() and any(folder.iterdir()))


def newest(folder: Path) -> tuple[int | None, list[Path]]:
    """The number of the newest intact checkpoint in `folder`, and the newer damaged ones."""
    damaged: list[Path] = []
    for number in numbers(folder):
        if not trees.altered(folder / str(number)):
            return number, damaged
        damaged.append(folder / str(number))
    return None, damaged


def read_about(folder: Path, number: int) -> dict[str, Any]:
    """Read the JSON part of an intact checkpoint, with its configurations as ConfigDict.

    Raises InputError if it is not in the format of `save`.
    """
    try:
        about = dict(trees.checkpoint_about(folder, number))
        runs = {name: configs.from_json(json.dumps(c)) for name, c in about["runs"].items()}
        if not (
            all(isinstance(about[k], int) and about[k] >= 0 for k in ("task", "epoch"))
            and all(isinstance(text, str) for text in about["metrics"])
            and all(isinstance(data, dict) for data in about["data"])
            and len(about["metrics"]) == len(about["data"]) == len(runs)
            and isinstance(about["versions"], dict)
            and isinstance(about["diverged"], dict)
        ):
            raise ValueError("fields of other types")
    except Exception as error:  # Orbax raises many exception types
        raise unreadable(folder / str(number), error) from error
    return about | {"runs": runs}


def unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read ({oneline(error)}): it was written by another version of hatjax; "
        "start over with --overwrite"
    )


def restore(
    folder: Path, number: int, inputs: Inputs, approach: Approach, about: dict[str, Any]
) -> Progress:
    """Restore the progress of a program from a checkpoint, which process 0 reads for all.

    Raises InputError if the checkpoint cannot be read.
    """
    state = state_shapes(inputs, approach)
    matrix = jax.ShapeDtypeStruct((inputs.count, inputs.total, inputs.total), np.float64)
    shapes = {"state": jax.eval_shape(packed, state), "accuracy": matrix, "loss": matrix}

    def read() -> Tree:
        try:
            return trees.checkpoint_tree(folder, number, shapes)
        except Exception as error:  # Orbax raises many kinds
            raise unreadable(folder / str(number), error) from error

    saved = replicas.by_first(read)
    if saved is None:  # not process 0: placeholders for what it broadcasts
        saved = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    saved = replicas.from_first(saved)
    copies = inputs.placement.padded - inputs.count
    padded = jax.tree.map(lambda x: np.concatenate([x, *[x[-1:]] * copies]), saved["state"])
    return Progress(
        about["task"],
        about["epoch"],
        unpacked(inputs.placement.put(padded), state),
        np.array(saved["accuracy"], float),
        np.array(saved["loss"], float),
        {inputs.names.index(name): why for name, why in about["diverged"].items()},
        energies(inputs, about.get("energy")),
    )


def energies(inputs: Inputs, saved: object = None) -> np.ndarray:
    """Progress.energy as saved, "R T 2"; NaN without it, as in older checkpoints."""
    shape = inputs.count, inputs.total, 2
    return np.full(shape, np.nan) if saved is None else np.array(saved, float).reshape(shape)


def state_shapes(inputs: Inputs, approach: Approach) -> State:
    """The shapes of the state "R ...", without the copies that pad R to the number of devices."""
    functions = train.functions(inputs.config, approach)
    turn, hyper = Turn(np.int32(0), np.int32(0)), train.hyperparameters(inputs.config)

    def one(key):
        return functions.begin(*functions.init(key), turn, key, hyper)

    return jax.eval_shape(jax.vmap(one), jax.random.split(keys.key(0), inputs.count))


def packed(tree: Tree) -> Tree:
    """The tree with its random keys as integer arrays, for saving."""
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
    """Says when a checkpoint is due: every `epochs` epochs or `minutes` minutes; 0 means never."""

    def __init__(self, epochs: int, minutes: float):
        self.epochs, self.seconds, self.last = epochs, 60 * minutes, time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether a checkpoint is due after `epoch` epochs of a task."""
        by_number = self.epochs and epoch % self.epochs == 0
        late = self.seconds and time.monotonic() - self.last >= self.seconds
        return bool(by_number or late)

    def reset(self) -> None:
        """Restart the timer, after a checkpoint."""
        self.last = time.monotonic()
