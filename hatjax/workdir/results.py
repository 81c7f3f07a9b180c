"""The results of a run on disk.

A workdir holds
    config.json     the resolved configuration
    versions.json   with which software (hatjax.workdir.versions)
    tasks.npz       what prediction needs from the tasks (names, classes, normalisation, pixel
                    orders; names of classes and columns, range of numbers), and fingerprints of
                    their images, and of those of the test alone
    earlier.json    of a run that extends another: the configurations of the runs before it
    metrics.jsonl   a line for every epoch
    accuracy.npy    "T T": [t, u] is the accuracy on task u's test images after task t; 0 for u > t,
                    NaN where task u was forgotten on purpose (hatjax.forget)
    loss.npy        "T T": the same for the test loss
    energy.npy      "T 2": mean and standard deviation of each task's energy (analysis.task_free)
    task_free.json  the accuracy without being told the task, once all are learned
    accuracy.txt    the accuracies in the format of the published plot_results.py
    model/          parameters and memory after the last finished task, saved with Orbax, and the
                    SHA-256 of its files
    checkpoints/    the checkpoints of an unfinished run (hatjax.experiment.checkpoint)
    diverged        the error message, if the loss became NaN or infinite
    done            empty; exists once all tasks are learned
    export/         small networks of single tasks (hatjax.export)
    tensorboard/    event files, with --tensorboard
"""

import io
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.data import about, reading
from hatjax.data.tasks.fingerprint import fingerprints, of_tests
from hatjax.errors import InputError, oneline
from hatjax.types import About, Task, Tree
from hatjax.workdir import files, trees


def write_tasks(where: Path, tasks: Sequence[Task], known: dict[str, str]) -> None:
    """Write tasks.npz; `known` holds the fingerprints of the tasks by name."""
    tested = of_tests(tasks)
    arrays: dict[str, Any] = {
        "names": np.array([task.name for task in tasks]),
        "fingerprints": np.array([known[task.name] for task in tasks]),
        "tests": np.array([tested[task.name] for task in tasks]),
        "row": np.array([task.row for task in tasks]),
        "classes": np.array([task.classes for task in tasks]),
        "image": np.array(tasks[0].train.x.shape[1:]),
        "mean": np.stack([task.mean for task in tasks]),
        "std": np.stack([task.std for task in tasks]),
        "about": np.array([about.text(task.about) for task in tasks]),
    }
    if any(task.pixels is not None for task in tasks):
        plain = np.arange(math.prod(tasks[0].train.x.shape[1:]))  # of tasks without an order
        pixels = [plain if task.pixels is None else task.pixels for task in tasks]
        arrays["pixels"] = np.stack(pixels).astype(np.int32)
    content = io.BytesIO()  # not a file: on a full disk, zipfile could not close it
    np.savez(content, **arrays)
    files.write_bytes(where / "tasks.npz", content.getvalue())


def check_tasks(where: Path, tasks: Sequence[Task]) -> None:
    """Raise InputError if the run in `where` was trained on other tasks."""
    try:
        found = read_tasks(where / "tasks.npz")
    except ValueError as error:
        raise InputError(
            f"{where / 'tasks.npz'} is damaged ({error}): start over with --overwrite"
        ) from error
    old = dict(zip(map(str, found["names"]), map(str, found.get("fingerprints", ())), strict=False))
    same_tasks(where, old, fingerprints(tasks))


def same_tasks(where: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """Raise InputError, naming the tasks, if old and new fingerprints (by task name) differ."""
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        raise InputError(
            f"the images or labels of {', '.join(changed[:3])} are not those of the run in "
            f"{where}: restore them, choose another workdir with --workdir=DIR, or start over "
            "with --overwrite"
        )


KINDS = {  # dtype.kind of the arrays in tasks.npz
    "names": "U", "row": "iu", "classes": "iu", "image": "iu", "mean": "f", "std": "f",
    "pixels": "iu", "fingerprints": "U", "tests": "U", "about": "U",
}  # fmt: skip
OPTIONAL = ("pixels", "fingerprints", "tests", "about")  # which only some runs have


def read_tasks(path: Path) -> dict[str, np.ndarray]:
    """Read tasks.npz; ValueError, with the reason, if it is damaged or in another format."""
    found = reading.npz(path, KINDS)
    if absent := KINDS.keys() - found.keys() - {*OPTIONAL}:
        raise ValueError(f"no array {min(absent)}")
    if strange := [k for k, a in found.items() if a.dtype.kind not in KINDS[k]]:
        raise ValueError(f"{strange[0]} is {found[strange[0]].dtype}")
    total, image = found["names"].size, found["image"].ravel()
    each = ("names", "row", "classes", "fingerprints", "tests", "about")
    shapes: dict[str, tuple[int, ...]] = {k: (total,) for k in each}
    shapes |= {k: (total, *image[2:3]) for k in ("mean", "std")}
    shapes |= {"image": (3,), "pixels": (total, math.prod(map(int, image)))}
    if strange := [k for k, a in found.items() if a.shape != shapes[k]]:
        raise ValueError(f"{strange[0]} is of shape {found[strange[0]].shape}")
    moments = np.concatenate([found["mean"], found["std"]])
    if not (
        0 < total <= 10000
        and np.array_equal(np.sort(found["row"]), np.arange(total))
        and found["classes"].min() > 0
        and image.min() > 0
        and np.isfinite(moments).all()
        and all(np.array_equal(np.sort(p), np.arange(len(p))) for p in found.get("pixels", ()))
    ):
        raise ValueError("its arrays do not describe tasks")
    read_about(found)
    return found


def read_about(found: dict[str, np.ndarray]) -> tuple[About, ...]:
    """What `found`, of read_tasks, says about each task's examples; ValueError if it is damaged.

    Runs that began before it was written say nothing.
    """
    total, features = len(found["names"]), int(found["image"][2])
    if "about" not in found:
        return (About(),) * total
    lines = zip(found["about"].tolist(), found["classes"].tolist(), strict=True)
    return tuple(about.read(line, classes, features) for line, classes in lines)


EARLIER = "earlier.json"


def write_earlier(where: Path, earlier: Sequence[ConfigDict]) -> None:
    """Write earlier.json, the configurations of the runs that this one extends, if any."""
    if earlier:
        content = [config.to_dict() for config in earlier]
        files.write_text(where / EARLIER, json.dumps(content, indent=2) + "\n")


def read_earlier(where: Path) -> tuple[ConfigDict, ...]:
    """The configurations of earlier.json, () without it. ValueError if it is damaged."""
    path = where / EARLIER
    if not path.exists():
        return ()
    try:
        found = json.loads(reading.text(path))
        return tuple(
            configs.completed(configs.from_json(json.dumps(content))) for content in found
        )
    except (OSError, TypeError, ValueError, RecursionError, InputError) as error:
        raise ValueError(f"{path} is damaged ({oneline(error)})") from error


def read_matrix(path: Path, total: int) -> np.ndarray:
    """Read a matrix "T T" of `total` tasks; ValueError, with the reason, for anything else."""
    found = reading.npy(path)
    if found.dtype.kind != "f" or found.shape != (total, total):
        shape = "x".join(map(str, found.shape))
        raise ValueError(f"{found.dtype} of shape {shape}: expected {total}x{total} numbers")
    return found


def read_energy(where: Path, total: int) -> np.ndarray | None:
    """energy.npy "T 2" of `total` tasks; None without it. ValueError if it is damaged."""
    path = where / "energy.npy"
    if not path.exists():
        return None
    found = reading.npy(path)
    if found.dtype.kind != "f" or found.shape != (total, 2):
        raise ValueError(f"{path.name} is {found.dtype} of shape {found.shape}")
    return found


FREE_OF_TASK = "task_free.json"
READINGS = ("task_found", "class_incremental", "domain_incremental")


def read_task_free(where: Path) -> dict[str, dict[str, list[float]]]:
    """task_free.json: {method: {reading: its share for each task}}; {} without it.

    ValueError if it is damaged.
    """
    path = where / FREE_OF_TASK
    if not path.exists():
        return {}
    try:
        found = json.loads(reading.text(path))
        methods = {
            name: {k: [math.nan if v is None else float(v) for v in of[k]] for k in READINGS}
            for name, of in found.items()
        }
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({oneline(error)})") from error
    every = [v for of in methods.values() for values in of.values() for v in values]
    if not all(math.isnan(v) or 0 <= v <= 1 for v in every):
        raise ValueError(f"{path} is damaged (expected numbers from 0 to 1)")
    return methods


def read_accuracy(where: Path) -> np.ndarray:
    """The accuracies "T T" of the run in a workdir; InputError if they are damaged."""
    try:
        total = len(read_tasks(where / "tasks.npz")["names"])
        return read_matrix(where / "accuracy.npy", total)
    except ValueError as error:
        raise InputError(
            f"{where} is damaged ({oneline(error)}): run it again with --overwrite"
        ) from error


def read_diverged(where: Path) -> str:
    """Why the loss of a run became NaN or infinite; "" if it did not."""
    path = where / "diverged"
    try:
        return " ".join(reading.text(path).split()) if path.exists() else ""
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({oneline(error)})"


LARGEST = {int: 2**53, float: math.inf}  # in metrics.jsonl; losses may be huge before they diverge


def read_rows(path: Path) -> list[dict]:
    """The lines of metrics.jsonl as dicts of numbers; [] if the file does not exist.

    A last line without a newline is still being written, and is skipped. Raises ValueError, naming
    the line, if one is damaged.
    """
    lines = reading.text(path).split("\n")[:-1] if path.exists() else []
    rows: list[dict] = []
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not (
            isinstance(row, dict)
            and all(type(row.get(k)) is int and row[k] >= 0 for k in ("task", "epoch"))
            and all(type(v) in LARGEST and abs(v) < LARGEST[type(v)] for v in row.values())
            and row.keys() == (rows or [row])[0].keys()
        ):
            raise ValueError(f"line {i + 1}")
        rows.append(row)
    return rows


def append(where: Path, row: dict) -> None:
    """Add a line to metrics.jsonl."""
    with open(where / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(where: Path) -> str:
    """The text of metrics.jsonl; "" if the file does not exist."""
    path = where / "metrics.jsonl"
    return reading.text(path) if path.exists() else ""


def epochs(where: Path) -> int:
    """The number of lines in metrics.jsonl: the epochs trained so far, over all tasks."""
    return len(read_metrics(where).splitlines())


def save(where: Path, acc: np.ndarray, loss: np.ndarray, params: Tree, memory: Tree) -> None:
    """Save the matrices "T T" and the model after a task. Raises OSError."""
    part, old = where / ".model.part", where / ".model.old"
    for folder in (part, old):
        shutil.rmtree(folder, ignore_errors=True)
    trees.save(part, {"params": params, "memory": memory})
    if (where / "model").exists():
        os.replace(where / "model", old)
    os.replace(part, where / "model")
    shutil.rmtree(old, ignore_errors=True)
    # Last: the matrices must never have a row for a task that the saved model has not learned.
    files.write_array(where / "loss.npy", loss)
    files.write_array(where / "accuracy.npy", acc)
    files.write_text(
        where / "accuracy.txt",
        "".join(" ".join(f"{a:.4f}" for a in row) + "\n" for row in acc),
    )
