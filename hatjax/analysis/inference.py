"""Which task given examples are of, by how sure a trained model is (SupSup, section 3.3)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hatjax.analysis import which
from hatjax.analysis.models import Model, normalised
from hatjax.errors import InputError
from hatjax.training import train
from hatjax.types import Array


def inputs(model: Model, x: np.ndarray, task: int) -> Array:
    """What the network gets of raw images x "n h w c" of `task` (from 0): "n h w c" float32.

    They are normalised, and their pixels in the order, as in the training of the task. Raises as
    models.predict.
    """
    task = which.answering(model, task)
    pixels = None if model.pixels is None else model.pixels[task]
    return normalised(x, model.image, model.mean[task], model.std[task], pixels)


def entropy(logits: Array) -> Array:
    """The mean entropy of the softmax of logits "n C", float32[]; classes of -inf count nothing."""
    log = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.sum(jnp.where(jnp.isfinite(log), jnp.exp(log) * log, 0), axis=-1))


def entropies(model: Model, x: Array) -> Array:
    """The mean entropy of the outputs of each learned task's own network, "T" in learning order.

    x are network inputs "n h w c", as `inputs` gives. Raises InputError as `infer_task`.
    """
    rows = _rows(model, x)
    params, memory = jax.tree.map(jnp.asarray, (model.params, model.memory))
    hyper = train.hyperparameters(model.config)

    @jax.jit
    def of(row: Array) -> Array:
        return entropy(model.approach.predict(params, memory, x, row, hyper))

    return jnp.stack([of(row) for row in rows])


def entropy_slopes(model: Model, x: Array) -> Callable[[Array], Array]:
    """(alpha "T") -> the gradient, in alpha, of the entropy of the superposed network, "T".

    x are network inputs "n h w c", as `inputs` gives. The network has the weights w sum_t alpha_t
    m^t of the T learned tasks, in learning order; its head and norms, of which every task has its
    own, are mixed likewise, and kept out of the gradient. Raises InputError as `infer_task`.
    """
    superpose = model.approach.superpose
    if superpose is None:
        raise InputError(
            f"the approach {model.config.approach.name!r} has no masks over weights to superpose: "
            "give a run of SupSup or WSN, or how='each'"
        )
    rows = _rows(model, x)
    params, memory = jax.tree.map(jnp.asarray, (model.params, model.memory))

    def of_shares(alpha: Array) -> Array:
        mixture = superpose(params, memory, jnp.zeros(len(model.rows)).at[rows].set(alpha))
        return entropy(model.network.apply(mixture, x, rows[0]).logits)

    return jax.jit(jax.grad(of_shares))


def infer_task(model: Model, x: Array, how: str = "each") -> int:
    """The task (from 0, in learning order) that examples of one and the same task are of.

    `how` it is found:

        "each"      the outputs of its own network have the lowest entropy; a pass for every task
        "gradient"  the entropy of the superposition of all networks, at shares 1/T, falls fastest
                    as its share grows: one pass (the paper's one-shot algorithm)
        "binary"    as "gradient", but halving the tasks that are left with each pass

    The paper's networks have one head for all tasks. With a head for every task, as here, the
    superposed one says little, and the gradients are often wrong. `x` are network inputs "n h w c",
    normalised and in the order of pixels in which the network shall see them (`inputs`): with raw
    images it would be unclear which task's normalisation and order to use. Raises InputError for
    tasks of different numbers of classes, other shapes, another `how`, and gradients of a model
    without masks over weights.
    """
    which.check(model)
    if how not in ("each", "gradient", "binary"):
        raise InputError(f"how = {how!r}: expected 'each', 'gradient' or 'binary'")
    tasks = np.array([t for t, there in enumerate(model.learned) if there])
    if how == "each":
        return int(tasks[int(jnp.argmin(entropies(model, x)))])
    slopes = entropy_slopes(model, x)
    left = np.arange(len(tasks))
    while len(left) > 1:
        alpha = jnp.zeros(len(tasks)).at[left].set(1 / len(left))
        order = left[np.argsort(np.asarray(slopes(alpha))[left])]
        left = order[: 1 if how == "gradient" else (len(left) + 1) // 2]
    return int(tasks[left[0]])


def _rows(model: Model, x: Array) -> np.ndarray:
    """The rows of the learned tasks in the per-task arrays; InputError as `infer_task`."""
    rows = np.array([r for r, there in zip(model.rows, model.learned, strict=True) if there], int)
    counts = sorted({model.network.classes[row] for row in rows})
    if len(counts) != 1:
        raise InputError(
            f"the learned tasks have {', '.join(map(str, counts)) or 'no'} classes: entropies tell "
            "tasks apart only if all have the same number of classes"
        )
    if jnp.shape(x)[1:] != model.image or not len(x):
        raise InputError(
            f"the inputs are of shape {jnp.shape(x)}: expected "
            f"[n, {', '.join(map(str, model.image))}], as hatjax.analysis.inference.inputs gives"
        )
    return rows
