"""The results of a run on disk, and the trained model read back from there.

A workdir holds
    config.json     the resolved configuration
    tasks.npz       what prediction needs of the tasks (names, classes, normalisation, pixel
                    orders), and fingerprints of their images
    metrics.jsonl   a line for every epoch
    accuracy.npy    "T T": [t, u] is the accuracy on task u's test images after task t, 0 for u > t;
                    not a number where task u was forgotten on purpose (hatjax.forget)
    loss.npy        "T T": likewise the loss
    accuracy.txt    the accuracies as the published plot_results.py reads them, a line for each task
    model/          parameters and memory after the last finished task, saved with orbax, and the
                    SHA-256 of its files
    checkpoints/    what an unfinished run goes on from (hatjax.checkpoints)
    diverged        why the run stopped, if its loss was no longer a number
    done            there once all tasks are finished
    export/         small networks of single tasks (hatjax.export)
    tensorboard/    event files, if asked for
"""

import io
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr
from ml_collections import ConfigDict

from hatjax import approaches, networks, reading, sums, train, workdir
from hatjax import config as configs
from hatjax.data.raw import numbers
from hatjax.errors import InputError, oneline
from hatjax.tasks.fingerprint import fingerprints
from hatjax.types import Approach, Array, Network, Task, Tree


class Model(NamedTuple):
    """A trained network with what it takes to use it."""

    config: ConfigDict
    names: tuple[str, ...]  # of the tasks, in the order in which they were learned
    rows: tuple[int, ...]  # theirs in the per-task arrays
    network: Network
    approach: Approach
    params: Tree
    memory: Tree
    mean: np.ndarray  # "T c", in the order of the names
    std: np.ndarray  # "T c"
    pixels: np.ndarray | None  # "T hwc"
    image: tuple[int, ...]  # h, w, c
    learned: tuple[bool, ...]  # False: not yet, or forgotten on purpose


def write_tasks(where: Path, tasks: Sequence[Task], known: dict[str, str]) -> None:
    """Save what prediction needs of the tasks, and their `known` fingerprints by name."""
    arrays: dict[str, Any] = {
        "names": np.array([task.name for task in tasks]),
        "fingerprints": np.array([known[task.name] for task in tasks]),
        "row": np.array([task.row for task in tasks]),
        "classes": np.array([task.classes for task in tasks]),
        "image": np.array(tasks[0].train.x.shape[1:]),
        "mean": np.stack([task.mean for task in tasks]),
        "std": np.stack([task.std for task in tasks]),
    }
    pixels = [task.pixels for task in tasks if task.pixels is not None]
    if pixels:
        arrays["pixels"] = np.stack(pixels).astype(np.int32)
    content = io.BytesIO()  # on a full disk, zipfile leaves a file that it cannot close
    np.savez(content, **arrays)
    part = where / ".tasks.npz.part"
    part.write_bytes(content.getvalue())
    os.replace(part, where / "tasks.npz")


def check_tasks(where: Path, tasks: Sequence[Task]) -> None:
    """Raise InputError if the run in `where` was made with other tasks."""
    try:
        found = read_tasks(where / "tasks.npz")
    except ValueError as error:
        raise InputError(
            f"{where / 'tasks.npz'} is damaged ({error}): begin anew with --overwrite"
        ) from error
    old = dict(zip(map(str, found["names"]), map(str, found.get("fingerprints", ())), strict=False))
    same_tasks(where, old, fingerprints(tasks))


def same_tasks(where: Path, old: dict[str, str], new: dict[str, str]) -> None:
    """Raise InputError, naming the tasks, if fingerprints of tasks by name differ."""
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if changed:
        raise InputError(
            f"the images or labels of {', '.join(changed[:3])} are not those of the run in "
            f"{where}: bring them back, choose another workdir with --workdir=DIR, or begin anew "
            "with --overwrite"
        )


KINDS = {  # of the arrays in tasks.npz: of their dtype
    "names": "U", "row": "iu", "classes": "iu", "image": "iu", "mean": "f", "std": "f",
    "pixels": "iu", "fingerprints": "U",
}  # fmt: skip


def read_tasks(path: Path) -> dict[str, np.ndarray]:
    """What write_tasks wrote; ValueError, with the reason, if it is something else."""
    found = reading.npz(path, KINDS)
    if absent := KINDS.keys() - found.keys() - {"pixels", "fingerprints"}:
        raise ValueError(f"no array {min(absent)}")
    if strange := [k for k, a in found.items() if a.dtype.kind not in KINDS[k]]:
        raise ValueError(f"{strange[0]} is {found[strange[0]].dtype}")
    total, image = found["names"].size, found["image"].ravel()
    each = ("names", "row", "classes", "fingerprints")
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
        raise ValueError("its arrays are not those of tasks")
    return found


def read_matrix(path: Path, total: int) -> np.ndarray:
    """A matrix of so many tasks, "T T"; ValueError, with the reason, for anything else."""
    found = reading.npy(path)
    if found.dtype.kind != "f" or found.shape != (total, total):
        shape = "x".join(map(str, found.shape))
        raise ValueError(f"{found.dtype} of shape {shape}: expected {total}x{total} numbers")
    return found


def read_rows(path: Path) -> list[dict]:
    """The lines of metrics.jsonl, numbers by name; none if it is not there.

    A last line without an end is one that a run is writing, and is left out. ValueError, naming the
    line, if one cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows: list[dict] = []
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not (
            isinstance(row, dict)
            and all(type(row.get(k)) is int and row[k] >= 0 for k in ("task", "epoch"))
            and all(isinstance(v, int | float) and not abs(v) >= 2**53 for v in row.values())
            and row.keys() == (rows or [row])[0].keys()
        ):
            raise ValueError(f"line {i + 1}")
        rows.append(row)
    return rows


def append(where: Path, row: dict) -> None:
    """Add a line to metrics.jsonl."""
    with open(where / "metrics.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")


def epochs(where: Path) -> int:
    """How many lines metrics.jsonl has."""
    path = where / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def save(where: Path, acc: np.ndarray, loss: np.ndarray, params: Tree, memory: Tree) -> None:
    """Save the matrices "T T" and the model as they are after a task."""
    _save(where, acc, loss, lambda to: save_tree(to, {"params": params, "memory": memory}))


def save_copy(where: Path, acc: np.ndarray, loss: np.ndarray, model: Path) -> None:
    """As `save`, of a model that is saved already, in the folder `model`."""
    _save(where, acc, loss, lambda to: shutil.copytree(model, to))


def _save(where: Path, acc: np.ndarray, loss: np.ndarray, write: Callable[[Path], object]) -> None:
    workdir.write_array(where / "accuracy.npy", acc)
    workdir.write_array(where / "loss.npy", loss)
    workdir.write_text(
        where / "accuracy.txt",
        "".join(" ".join(f"{a:.4f}" for a in row) + "\n" for row in acc),
    )
    part, old = where / ".model.part", where / ".model.old"
    for folder in (part, old):
        shutil.rmtree(folder, ignore_errors=True)
    write(part)
    if (where / "model").exists():
        os.replace(where / "model", old)
    os.replace(part, where / "model")
    shutil.rmtree(old, ignore_errors=True)


def save_tree(path: Path, tree: Tree) -> None:
    """Save a pytree of arrays as the folder `path`, with the sums of its files."""
    tree = jax.device_get(tree)  # arrays of a device are only read back where there are as many
    room(path.parent, sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree)))
    with _checkpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree)
    sums.write(path)


def room(folder: Path, size: int) -> None:
    """OSError if the disk has no room for so many bytes in a folder.

    orbax would find out in several threads, which print a traceback each.
    """
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size + 2**16)


def load_tree(path: Path, shapes: Tree) -> Tree:
    """The pytree of NumPy arrays in the folder `path`; `shapes` are what jax.eval_shape gives.

    Raises ValueError if a file is not as it was saved, or the arrays have other names or shapes.
    """
    if bad := sums.altered(path):
        raise ValueError(f"{path / bad[0]} is damaged or missing")
    _check(path, shapes)
    with _checkpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), shapes)


def _check(path: Path, shapes: Tree) -> None:
    """Read what somebody saved who knows the sums: orbax prints tracebacks where reads fail."""
    import tensorstore  # orbax's own store

    base = {"driver": "file", "path": f"{path.absolute()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found = {key.decode(): store.read(key).result().value for key in store.list().result()}
    for names, leaf in jax.tree.leaves_with_path(shapes):
        name = keystr(names, simple=True, separator=".")
        if f"{name}/.zarray" not in found:
            raise ValueError(f"there is no {name} in {path}")
        if (shape := json.loads(found[f"{name}/.zarray"])["shape"]) != list(leaf.shape):
            raise ValueError(f"{name} in {path} is of shape {shape}, not {list(leaf.shape)}")


def _checkpointer():
    import orbax.checkpoint  # here, since it takes a second to import

    logging.getLogger("absl").setLevel(logging.WARNING)  # it reports every save
    # Of several processes only the one that calls takes part: it has all that is saved on its host.
    me = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)


def load(where: str | Path) -> Model:
    """The trained model of the run in a workdir.

    Raises InputError if there is no run, no finished task yet, or a damaged file.
    """
    where = Path(where)
    config = workdir.read_config(where)
    if not (where / "model").exists():
        raise InputError(f"{where} has no model yet: the run has not finished its first task")
    try:
        configs.check(config)
        tasks = read_tasks(where / "tasks.npz")
        loss = read_matrix(where / "loss.npy", len(tasks["names"]))
        rows, image = (tuple(int(n) for n in tasks[k]) for k in ("row", "image"))
        classes = tuple(int(n) for n in tasks["classes"][np.argsort(rows)])
        network = networks.make(config, image, classes)
        approach = approaches.make(config, network)
        shapes = jax.eval_shape(approach.init, jax.random.key(0))
        state = dict(zip(("params", "memory"), shapes, strict=True))
        saved = load_tree(where / "model", state)
    except Exception as error:  # orbax and numpy raise many kinds for a damaged file
        raise InputError(
            f"{where} cannot be loaded ({oneline(error)}): run it again with --overwrite"
        ) from error
    return Model(
        config,
        tuple(str(name) for name in tasks["names"]),
        rows,
        network,
        approach,
        saved["params"],
        saved["memory"],
        tasks["mean"],
        tasks["std"],
        tasks.get("pixels"),
        image,
        tuple(bool(n > 0) for n in np.diag(loss)),
    )


def predict(model: Model, x: np.ndarray, task: int) -> Array:
    """Logits "n classes" of `task` (counted from 0) for raw images "n h w c".

    Grey ones may be "n h w"; feature vectors, if it was trained on them, are "n d".

    The images are as in the data set (uint8, 0..255); normalisation and pixel order are applied
    here. Raises InputError for a task, image shape or dtype that the model does not have, and for
    numbers that are not finite.
    """
    row, hyper = model.rows[_place(model, task)], train.hyperparameters(model.config)
    pixels = None if model.pixels is None else model.pixels[task]
    inputs = normalised(x, model.image, model.mean[task], model.std[task], pixels)
    logits = model.approach.predict(model.params, model.memory, inputs, row, hyper)
    return logits[:, : model.network.classes[row]]


def evaluate(model: Model, x: np.ndarray, y: np.ndarray, task: int) -> float:
    """The accuracy 0..1 of `task` (counted from 0) on raw images as for `predict`, labels "n".

    Raises as `predict`, and InputError for numbers of images and labels that differ, or are 0, and
    for labels that are not the task's.
    """
    x, y = numbers(x, "the images"), numbers(y, "the labels")
    if not x.ndim or not len(x) or y.shape != x.shape[:1]:
        raise InputError(f"images {x.shape} and labels {y.shape}: expected a label for each image")
    classes = model.network.classes[model.rows[_place(model, task)]]
    strange = (y < 0) | (y >= classes) | (y % 1 != 0)
    if strange.any():
        raise InputError(
            f"the labels hold {y[strange][0]:g}: task {task} has the labels 0..{classes - 1}"
        )
    size = model.config.eval_batch
    right = sum(
        int(np.sum(np.argmax(predict(model, x[i : i + size], task), -1) == y[i : i + size]))
        for i in range(0, len(x), size)
    )
    return right / len(x)


def _place(model: Model, task: int) -> int:
    """The task's place in the sequence; InputError if the model does not have it."""
    if not isinstance(task, (int, np.integer)) or not 0 <= task < len(model.names):
        raise InputError(f"task {task}: the model has the tasks 0..{len(model.names) - 1}")
    return int(task)


def normalised(
    x: np.ndarray,
    image: tuple[int, ...],
    mean: np.ndarray,
    std: np.ndarray,
    pixels: np.ndarray | None,
) -> np.ndarray:
    """Network inputs "n h w c" from raw images, with a task's mean and std "c" and pixel order.

    Images of one channel may be "n h w", and those of one pixel "n c": feature vectors. Raises
    InputError for other shapes than `image` "h w c", and as data.raw.numbers.
    """
    x = numbers(x, "the images")
    h, w, c = image
    shapes = [image, *[(h, w)] * (c == 1), *[(c,)] * (h == w == 1)]
    if x.shape[1:] not in shapes or not x.ndim:
        expected = ", ".join(map(str, shapes[-1]))
        raise InputError(f"the images are of shape {x.shape}: the model expects [n, {expected}]")
    x = x.reshape(len(x), *image)
    if pixels is not None:
        x = x.reshape(len(x), -1)[:, pixels].reshape(x.shape)
    return (x.astype(np.float32) - mean) / std
