"""The trained model of a run: load it from a workdir, predict and evaluate."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.data import columns, labels, scale
from hatjax.data.raw import numbers
from hatjax.errors import InputError, oneline
from hatjax.training import train
from hatjax.types import About, Approach, Array, Network, Tree
from hatjax.workdir import files, results, trees


class Model(NamedTuple):
    """A trained network and everything needed to use it."""

    config: ConfigDict
    names: tuple[str, ...]  # of the tasks, in learning order
    rows: tuple[int, ...]  # the tasks' rows in the per-task arrays
    network: Network
    approach: Approach
    params: Tree
    memory: Tree
    mean: np.ndarray  # "T c", in the order of the names
    std: np.ndarray  # "T c"
    pixels: np.ndarray | None  # "T hwc"
    image: tuple[int, ...]  # h, w, c
    learned: tuple[bool, ...]  # False: not learned yet, or forgotten on purpose
    about: tuple[About, ...] = ()  # the tasks' names of classes and columns; (): not known

    def classes(self, task: int) -> labels.Labels:
        """The same as hatjax.classes(model, task)."""
        return classes(self, task)


def load(where: str | Path) -> Model:
    """Load the trained model of the run in a workdir.

    Raises InputError if there is no run, no finished task yet, or a damaged file.
    """
    where = Path(where)
    config = files.read_config(where)
    # results.save moves the old model to .model.old for a moment, while it replaces it.
    folder = next((p for p in (where / "model", where / ".model.old") if p.exists()), None)
    if not folder:
        raise InputError(f"{where} has no model yet: the run has not finished its first task")
    try:
        configs.check(config)
        tasks = results.read_tasks(where / "tasks.npz")
        loss = results.read_matrix(where / "loss.npy", len(tasks["names"]))
        rows, image = (tuple(int(n) for n in tasks[k]) for k in ("row", "image"))
        classes = tuple(int(n) for n in tasks["classes"][np.argsort(rows)])
        network = networks.make(config, image, classes)
        approach = approaches.make(config, network)
        shapes = jax.eval_shape(approach.init, jax.random.key(0))
        state = dict(zip(("params", "memory"), shapes, strict=True))
        saved = read(folder, state)
    except Exception as error:  # Orbax and NumPy raise many exception types for a damaged file
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
        about=results.read_about(tasks),
    )


LATER_PARTS = ("norms", "stats")  # parameters that the first saved models lack


def read(folder: Path, shapes: Tree) -> Tree:
    """trees.load, also for a model that was saved before LATER_PARTS existed."""
    about = folder / "_METADATA"
    if not about.is_file() or '"norms"' in about.read_text(errors="replace"):
        return trees.load(folder, shapes)

    def old(tree: Tree) -> Tree:
        if not isinstance(tree, dict):
            return tree
        return {k: old(v) for k, v in tree.items() if k not in LATER_PARTS or v}

    def new(found: Tree, tree: Tree) -> Tree:
        if not isinstance(tree, dict):
            return found
        return {k: new(found.get(k, {}), v) for k, v in tree.items()}

    return new(trees.load(folder, old(shapes)), shapes)


def classes(model: Model, task: int) -> labels.Labels:
    """What the classes of `task` (counted from 0) are called, in the order of the logits.

    Their names, where they were given as text or as folders; else numbers, those of the labels that
    were given. Raises InputError for an unknown task.
    """
    task = _place(model, task)
    count = model.network.classes[model.rows[task]]
    return about_task(model, task).labels or tuple(range(count))


def about_task(model: Model, task: int) -> About:
    """What is known about the examples of a task: nothing for models of older runs."""
    return model.about[task] if model.about else About()


def predict(model: Model, x: np.ndarray, task: int, names: bool = False) -> Array:
    """Logits "n classes" of `task` (counted from 0) for raw images "n h w c".

    Grey images may be "n h w"; feature vectors are "n d", or a table whose columns may stand in any
    order if training had a table, too. Pass images as they are in the data set (uint8, 0..255):
    normalisation and pixel order are applied here. With `names`, instead, the likeliest class of
    each example, "n", as one of `classes`. Raises InputError for an unknown task, a wrong image
    shape or dtype, numbers that are not finite or in another unit than in training, and columns
    that training did not have.
    """
    if names:
        return np.array(classes(model, task))[np.argmax(predict(model, x, task), -1)]
    row, hyper = model.rows[_place(model, task)], train.hyperparameters(model.config)
    pixels = None if model.pixels is None else model.pixels[task]
    x = as_trained(x, about_task(model, task))
    inputs = normalised(x, model.image, model.mean[task], model.std[task], pixels)
    logits = model.approach.predict(model.params, model.memory, inputs, row, hyper)
    return logits[:, : model.network.classes[row]]


def evaluate(model: Model, x: np.ndarray, y: np.ndarray, task: int) -> float:
    """The accuracy 0..1 on `task` (counted from 0); images as for `predict`, labels "n".

    The labels are of `classes`; where these are text, their places 0, 1, ... will do, too. Raises
    as `predict`, and InputError if there are no images, not one label for each, or labels that the
    task does not have.
    """
    x, y = labelled(model, x, y, task)
    size = model.config.eval_batch
    right = sum(
        int(np.sum(np.argmax(predict(model, x[i : i + size], task), -1) == y[i : i + size]))
        for i in range(0, len(x), size)
    )
    return right / len(x)


def labelled(model: Model, x: Any, y: Any, task: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples, and labels "n" as 0..classes-1, of `task`. Raises InputError as `evaluate`."""
    x, names = columns.table(x, "the images")
    x, y = numbers(x, "the images", names), labels.flat(y, "the labels")
    if not x.ndim or not len(x) or y.shape != x.shape[:1]:
        raise InputError(f"images {x.shape} and labels {y.shape}: expected a label for each image")
    y = labels.indices(y, classes(model, task), "the labels", task)
    return columns.ordered(x, names, about_task(model, task).columns, "the images"), y


def as_trained(x: Any, about: About) -> np.ndarray:
    """Raw examples as an array of numbers whose columns stand as in training.

    Raises InputError for other columns or another unit than in training, and as data.raw.numbers.
    """
    x, names = columns.table(x, "the images")
    x = numbers(columns.ordered(x, names, about.columns, "the images"), "the images", about.columns)
    scale.check(x, about.scale, "the images")
    return x


def _place(model: Model, task: int) -> int:
    """`task` as an int; InputError if the model has no such task."""
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

    Grey images may be "n h w", and feature vectors (1x1 images) "n c". Raises InputError for other
    shapes than `image` (h, w, c), and as data.raw.numbers.
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
