"""The results of a run on disk, and the trained model read back from there.

A workdir holds
    config.json     the resolved configuration
    tasks.npz       what prediction needs of the tasks: names, classes, normalisation, pixel orders
    metrics.jsonl   a line for every epoch
    accuracy.npy    "T T": [t, u] is the accuracy on task u's test images after task t, 0 for u > t;
                    not a number where task u was forgotten on purpose (hatjax.forget)
    loss.npy        "T T": likewise the loss
    accuracy.txt    the accuracies as the published plot_results.py reads them, a line for each task
    model/          parameters and memory after the last finished task, saved with orbax
    done            there once all tasks are finished
    export/         small networks of single tasks (hatjax.export)
    tensorboard/    event files, if asked for
"""

import contextlib
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import keystr
from ml_collections import ConfigDict

from hatjax import approaches, networks, reading, train
from hatjax import config as configs
from hatjax.errors import InputError, oneline
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


def open_workdir(where: Path, config: ConfigDict, overwrite: bool = False) -> None:
    """Make `where` ready for the results of `config`.

    Raises InputError if it cannot be written, or holds something else than an unfinished run of the
    same configuration, which is begun anew. `overwrite` removes whatever run is there.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        raise InputError(
            f"workdir {where} cannot be written ({error.strerror}): choose another with "
            "--workdir=DIR"
        ) from error
    there = [p.name for p in where.iterdir()]
    if there and not (where / "config.json").exists():
        raise InputError(
            f"workdir {where} holds files that are not a run of hatjax ({', '.join(there[:3])}): "
            "choose another with --workdir=DIR"
        )
    if there and not overwrite:
        differing = differences(read_config(where), config)
        if differing:
            raise InputError(
                f"workdir {where} holds a run of another configuration ({'; '.join(differing)}): "
                "choose another with --workdir=DIR, or begin anew in it with --overwrite"
            )
    for name in ("done", "metrics.jsonl", "accuracy.npy", "loss.npy", "accuracy.txt"):
        (where / name).unlink(missing_ok=True)
    for name in ("model", "export", "tensorboard"):
        shutil.rmtree(where / name, ignore_errors=True)
    write_text(where / "config.json", configs.to_json(config))


def finished(where: Path, config: ConfigDict) -> bool:
    """Whether `where` holds the finished run of this very configuration."""
    if not (where / "done").exists():
        return False
    return not differences(read_config(where), config)


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """The fields in which two configurations differ, as "path: old value, now new value"."""
    a, b = configs.fields(old), configs.fields(new)
    return [
        f"config.{k}: {a.get(k, 'absent')}, now {b.get(k, 'absent')}"
        for k in sorted(a.keys() | b.keys())
        if a.get(k) != b.get(k)
    ]


def read_config(where: Path) -> ConfigDict:
    """The configuration of the run in `where`; InputError if there is none or it is damaged."""
    path = where / "config.json"
    if not os.path.isfile(path):  # which is False, too, for a path that cannot be one
        raise InputError(
            f"{where} holds no run of hatjax: there is no {path.name} in it; give a run's workdir"
        )
    try:
        return configs.from_json(path.read_text())
    except (OSError, ValueError, InputError) as error:
        reason = f"{path} is damaged ({oneline(error)})"
        raise InputError(f"{reason}: remove {where} and run again") from error


@contextlib.contextmanager
def folder(where: Path, ours: Sequence[str] = ()) -> Iterator[Path]:
    """Write the folder `where` all at once: what is put into the folder that this gives.

    A folder that holds nothing but files named in `ours` is replaced. Raises InputError if there
    are others, or it cannot be written; what was there before then stays.
    """
    where = where.absolute()
    part = where.parent / f".{where.name}.part"
    try:
        others = sorted({p.name for p in where.iterdir()} - {*ours}) if where.exists() else []
        if others:
            raise InputError(
                f"folder {where} holds other files ({', '.join(others[:3])}): choose another with "
                "--out=DIR"
            )
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(where, ignore_errors=True)
        os.replace(part, where)
    except OSError as error:
        raise InputError(
            f"folder {where} cannot be written ({error.strerror}): choose another with --out=DIR"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file all at once: after a crash there is the old one or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    os.replace(part, path)


def write_array(path: Path, array: np.ndarray) -> None:
    """Save an array as .npy, all at once."""
    part = path.with_name(f".{path.name}.part.npy")
    np.save(part, array, allow_pickle=False)
    os.replace(part, path)


def write_tasks(where: Path, tasks: Sequence[Task]) -> None:
    """Save what prediction needs of the tasks."""
    arrays: dict[str, Any] = {
        "names": np.array([task.name for task in tasks]),
        "row": np.array([task.row for task in tasks]),
        "classes": np.array([task.classes for task in tasks]),
        "image": np.array(tasks[0].train.x.shape[1:]),
        "mean": np.stack([task.mean for task in tasks]),
        "std": np.stack([task.std for task in tasks]),
    }
    pixels = [task.pixels for task in tasks if task.pixels is not None]
    if pixels:
        arrays["pixels"] = np.stack(pixels).astype(np.int32)
    part = where / ".tasks.part.npz"
    np.savez(part, **arrays)
    os.replace(part, where / "tasks.npz")


KINDS = {  # of the arrays in tasks.npz: of their dtype
    "names": "U", "row": "iu", "classes": "iu", "image": "iu", "mean": "f", "std": "f",
    "pixels": "iu",
}  # fmt: skip


def read_tasks(path: Path) -> dict[str, np.ndarray]:
    """What write_tasks wrote; ValueError, with the reason, if it is something else."""
    found = reading.npz(path, KINDS)
    if absent := KINDS.keys() - found.keys() - {"pixels"}:
        raise ValueError(f"no array {min(absent)}")
    if strange := [k for k, a in found.items() if a.dtype.kind not in KINDS[k]]:
        raise ValueError(f"{strange[0]} is {found[strange[0]].dtype}")
    total, image = found["names"].size, found["image"].ravel()
    shapes: dict[str, tuple[int, ...]] = {k: (total,) for k in ("names", "row", "classes")}
    shapes |= {k: (total, *image[2:3]) for k in ("mean", "std")}
    shapes |= {"image": (3,), "pixels": (total, math.prod(map(int, image)))}
    if strange := [k for k, a in found.items() if a.shape != shapes[k]]:
        raise ValueError(f"{strange[0]} is of shape {found[strange[0]].shape}")
    numbers = np.concatenate([found["mean"], found["std"]])
    if not (
        0 < total <= 10000
        and np.array_equal(np.sort(found["row"]), np.arange(total))
        and found["classes"].min() > 0
        and image.min() > 0
        and np.isfinite(numbers).all()
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


def save(where: Path, acc: np.ndarray, loss: np.ndarray, params: Tree, memory: Tree) -> None:
    """Save the matrices "T T" and the model as they are after a task."""
    write_array(where / "accuracy.npy", acc)
    write_array(where / "loss.npy", loss)
    write_text(
        where / "accuracy.txt",
        "".join(" ".join(f"{a:.4f}" for a in row) + "\n" for row in acc),
    )
    model = where / "model"
    with _checkpointer() as checkpointer:
        # From the host: arrays of a device are only read back where there are as many devices.
        state = jax.device_get({"params": params, "memory": memory})
        checkpointer.save(model.absolute(), state, force=model.exists())


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
    config = read_config(where)
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
        verify(where / "model", state)
        with _checkpointer() as checkpointer:
            saved = checkpointer.restore((where / "model").absolute(), state)
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


def verify(model: Path, state: Tree) -> None:
    """Read all that was saved in the folder `model`, and compare its checksums.

    Raises ValueError, or what tensorstore raises, if it is damaged or not of the shapes of `state`.
    Orbax would wait for pipes for ever, and print tracebacks where several of its reads fail.
    """
    import tensorstore  # orbax's own store

    if odd := [p for p in model.rglob("*") if not (p.is_file() or p.is_dir())]:
        raise ValueError(f"{odd[0]} is not a file")
    base = {"driver": "file", "path": f"{model.absolute()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found = {key.decode(): store.read(key).result().value for key in store.list().result()}
    for path, p in jax.tree.leaves_with_path(state):
        name = keystr(path, simple=True, separator=".")
        if f"{name}/.zarray" not in found:
            raise ValueError(f"there is no {name} in {model}")
        if (shape := json.loads(found[f"{name}/.zarray"])["shape"]) != list(p.shape):
            raise ValueError(f"{name} in {model} is of shape {shape}, not {list(p.shape)}")


def predict(model: Model, x: np.ndarray, task: int) -> Array:
    """Logits "n classes" of `task` (counted from 0) for raw images "n h w c".

    Grey ones may be "n h w"; feature vectors, if it was trained on them, are "n d".

    The images are as in the data set (uint8, 0..255); normalisation and pixel order are applied
    here. Raises InputError for a task or image shape that the model does not have.
    """
    if not 0 <= task < len(model.names):
        raise InputError(f"task {task}: the model has the tasks 0..{len(model.names) - 1}")
    pixels = None if model.pixels is None else model.pixels[task]
    inputs = normalised(x, model.mean[task], model.std[task], pixels)
    hyper, row = train.hyperparameters(model.config), model.rows[task]
    logits = model.approach.predict(model.params, model.memory, inputs, row, hyper)
    return logits[:, : model.network.classes[row]]


def evaluate(model: Model, x: np.ndarray, y: np.ndarray, task: int) -> float:
    """The accuracy 0..1 of `task` (counted from 0) on raw images as for `predict`, labels "n".

    Raises as `predict`, and InputError for numbers of images and labels that differ, or are 0.
    """
    x, y = np.asarray(x), np.asarray(y)
    if not len(x) or y.shape != (len(x),):
        raise InputError(f"images {x.shape} and labels {y.shape}: expected a label for each image")
    size = model.config.eval_batch
    right = sum(
        int(np.sum(np.argmax(predict(model, x[i : i + size], task), -1) == y[i : i + size]))
        for i in range(0, len(x), size)
    )
    return right / len(x)


def normalised(
    x: np.ndarray, mean: np.ndarray, std: np.ndarray, pixels: np.ndarray | None
) -> np.ndarray:
    """Network inputs "n h w c" from raw images, with a task's mean and std "c" and pixel order."""
    x = np.asarray(x)
    x = x.reshape(*x.shape, *[1] * (4 - x.ndim))
    if pixels is not None:
        if x[0].size != len(pixels):
            raise InputError(
                f"images of shape {x.shape[1:]}: the model was trained on {len(pixels)} "
                "numbers an image"
            )
        x = x.reshape(len(x), -1)[:, pixels].reshape(x.shape)
    return (x.astype(np.float32) - mean) / std
