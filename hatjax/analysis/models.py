"""The trained model of a run: load it from a workdir, predict and evaluate."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.analysis.blocks import in_blocks, traced
from hatjax.analysis.inputs import as_trained as as_trained
from hatjax.analysis.inputs import examples as examples
from hatjax.analysis.inputs import normalised as normalised
from hatjax.analysis.which import answering, is_forgotten, place
from hatjax.data import columns, labels
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
    forgotten: tuple[int, ...] = ()  # the tasks that were forgotten on purpose
    accuracy: np.ndarray | None = None  # "T T" as in the workdir (results); None: not known
    loss: np.ndarray | None = None  # "T T"
    tests: tuple[str, ...] = ()  # fingerprints of the test images; (): not known
    # "T 2" the mean and standard deviation of each task's energy (task_free); None: not known
    energy: np.ndarray | None = None
    earlier: tuple[ConfigDict, ...] = ()  # of the runs that this one extends, the first one first

    def classes(self, task: int) -> labels.Labels:
        """The same as hatjax.classes(model, task)."""
        return classes(self, task)

    def apply(self, params: Tree, x: Array, task: Array) -> Array:
        """Logits "n classes" as `predict` gives, as a pure function for jax.jit and jax.grad.

        `params` are model.params or a pytree like them; they and the raw examples x "n h w c" (also
        as `predict` takes them) may be traced. `task` may be, too: then the logits are "n C" for
        the C classes of the largest task, -inf beyond those of the task, and NaN for a task that is
        unknown or forgotten. Raises InputError as `predict`; traced numbers are not looked at.
        """
        if traced(task):
            if jnp.ndim(task) or task.dtype.kind not in "iu":
                raise InputError(f"the task is {task.dtype}{list(task.shape)}: expected an integer")
            row = jnp.asarray(self.rows)[task]
            own = jax.tree.map(lambda a: jnp.asarray(a)[task], (self.mean, self.std, self.pixels))
        else:
            task = answering(self, task)
            row, own = self.rows[task], _normalisation(self, task)
            x = x if traced(x) else as_trained(x, about_task(self, task))
        inputs, hyper = normalised(x, self.image, *own), train.hyperparameters(self.config)
        if not len(inputs):  # which a network need not take
            logits = jnp.zeros((0, max(self.network.classes)))
        else:
            # Arrays of JAX, since a traced row indexes none of NumPy.
            params, memory = jax.tree.map(jnp.asarray, (params, self.memory))
            logits = self.approach.predict(params, memory, inputs, row, hyper)
        if not traced(task):
            return logits[:, : self.network.classes[row]]
        known = jnp.array([t for t in range(len(self.names)) if not is_forgotten(self, t)])
        return jnp.where(jnp.isin(task, known), logits, jnp.nan)

    def __repr__(self) -> str:
        h, w, c = self.image
        shape = f"{h}x{w}x{c} images" if h * w > 1 else f"vectors of {c} numbers"
        tasks = f"{len(self.names)} task{'s' * (len(self.names) > 1)}"
        absent = f", {self.learned.count(False)} not learned" if not all(self.learned) else ""
        name, network = self.config.approach.name, self.config.network.name
        return f"<Model: {name} with the network {network}, {tasks} of {shape}{absent}>"

    def __reduce__(self) -> tuple:
        """For pickle: without its functions, which are made again from the configuration."""
        fields = self._asdict() | {"network": None, "approach": None}
        fields |= jax.tree.map(np.asarray, {k: fields[k] for k in ("params", "memory")})
        fields["config"] = configs.to_json(self.config)
        fields["earlier"] = tuple(map(configs.to_json, self.earlier))
        return _unpickled, (fields, self.network.classes)


def _unpickled(fields: dict[str, Any], classes: tuple[int, ...]) -> Model:
    """The model that was pickled; InputError for a network of one's own that is not registered."""
    config = configs.from_json(fields["config"])
    network = networks.make(config, fields["image"], classes)
    made = {"config": config, "network": network, "approach": approaches.make(config, network)}
    made["earlier"] = tuple(map(configs.from_json, fields.get("earlier", ())))
    return Model(**fields | made)


def load(where: str | Path) -> Model:
    """Load the trained model of the run in a workdir.

    Raises InputError if there is no run, no finished task yet, a damaged file, or a network of your
    own that is not registered.
    """
    where = Path(where)
    config = files.read_config(where)
    # results.save moves the old model to .model.old for a moment, while it replaces it.
    folder = next((p for p in (where / "model", where / ".model.old") if p.exists()), None)
    if not folder:
        if (where / "done").exists():
            raise InputError(f"{where} has no model: give the run that this is a copy of")
        raise InputError(f"{where} has no model yet: the run has not finished its first task")
    name = configs.fields(config).get("network.name")
    if isinstance(name, str) and name not in networks.NETWORKS:
        raise InputError(
            f"{where} cannot be loaded: its network {name!r} is not registered. In Python call "
            "hatjax.register first; give a command the run's configuration file, which registers "
            "it, by --config=FILE"
        )
    try:
        configs.check(config)
        tasks = results.read_tasks(where / "tasks.npz")
        total = len(tasks["names"])
        matrices = [results.read_matrix(where / f"{k}.npy", total) for k in ("accuracy", "loss")]
        acc, loss = map(np.diag, matrices)
        earlier, energy = results.read_earlier(where), results.read_energy(where, total)
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
        # Both are 0 before a task is learned; after it, a loss of 0 means that all was right.
        learned=tuple(map(bool, (loss > 0) | (acc > 0))),
        about=results.read_about(tasks),
        forgotten=tuple(int(t) for t in np.flatnonzero(np.isnan(loss) & np.isnan(acc))),
        accuracy=matrices[0],
        loss=matrices[1],
        tests=tuple(map(str, tasks.get("tests", ()))),
        energy=energy,
        earlier=earlier,
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
    were given; but 0, 1, ... in each task of a set that was split by class and whose labels are
    0, 1, ... themselves. Raises InputError for an unknown task.
    """
    task = place(model, task)
    count = model.network.classes[model.rows[task]]
    return about_task(model, task).labels or tuple(range(count))


def about_task(model: Model, task: int) -> About:
    """What is known about the examples of a task: nothing for models of older runs."""
    return model.about[task] if model.about else About()


def predict(
    model: Model, x: np.ndarray, task: int, probabilities: bool = False, names: bool = False
) -> Array:
    """hatjax.predict (task_free.predict) with a task: its arguments, results and errors."""
    if names:
        if traced(x) or traced(task):
            raise InputError("names=True: inside jax.jit there are no texts: take the logits")
        return np.array(classes(model, task))[np.argmax(predict(model, x, task), -1)]
    if traced(x) or traced(task):
        logits = model.apply(model.params, x, task)
        return jax.nn.softmax(logits) if probabilities else logits
    task = answering(model, task)
    row, hyper = model.rows[task], train.hyperparameters(model.config)
    network = jax.jit(model.approach.predict)  # compiled once for all calls with these shapes
    x = examples(as_trained(x, about_task(model, task)), model.image)

    def outputs_of(some: np.ndarray) -> Array:
        inputs = normalised(some, model.image, *_normalisation(model, task))
        logits = network(model.params, model.memory, inputs, row, hyper)
        return jax.nn.softmax(logits, axis=-1) if probabilities else logits

    found = in_blocks(outputs_of, x, model.config.eval_batch)
    return jax.device_put(found[:, : model.network.classes[row]])


def evaluate(model: Model, x: np.ndarray, y: np.ndarray, task: int) -> float:
    """The accuracy 0..1 on `task` (counted from 0); images as for `predict`, labels "n".

    The labels are of `classes`; where these are text, their places 0, 1, ... will do, too. Raises
    as `predict`, and InputError if there are no images, not one label for each, or labels that the
    task does not have.
    """
    x, y = labelled(model, x, y, task)
    return int(np.sum(np.argmax(predict(model, x, task), -1) == y)) / len(x)


def labelled(model: Model, x: Any, y: Any, task: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples, and labels "n" as 0..classes-1, of `task`. Raises InputError as `evaluate`."""
    if traced(x) or traced(y):
        raise InputError(
            "the images or labels are traced, as inside jax.jit: take model.apply there, which "
            "gives logits"
        )
    x, names = columns.table(x, "the images")
    x, y = numbers(x, "the images", names), labels.flat(y, "the labels")
    if not x.ndim or not len(x) or y.shape != x.shape[:1]:
        raise InputError(f"images {x.shape} and labels {y.shape}: expected a label for each image")
    task = answering(model, task)
    y = labels.indices(y, classes(model, task), "the labels", task)
    return columns.ordered(x, names, about_task(model, task).columns, "the images"), y


def _normalisation(model: Model, task: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The mean, std and pixel order of a task, as `normalised` takes them."""
    pixels = None if model.pixels is None else model.pixels[task]
    return model.mean[task], model.std[task], pixels
