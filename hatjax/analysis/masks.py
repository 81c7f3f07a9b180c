"""The gates of a trained HAT model: the units that each task uses, the weights that tasks share."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hatjax import protection
from hatjax.analysis import which
from hatjax.analysis.models import Model
from hatjax.errors import InputError
from hatjax.training import train
from hatjax.types import Array, Tree

# Gates up to this value count as closed: even thousands of such units change an output by less than
# float32 rounding. Most closed gates are exactly 0; small ones come from embeddings close to 0.
DEAD = 1e-12


def masks(model: Model, task: int) -> dict[str, Array]:
    """The gates a^t of `task` (from 0, in learning order) at s_max, {layer: "units"} in 0..1.

    Raises InputError for a task that is unknown or was forgotten, or a model without gates.
    """
    which.check(model)
    if not model.network.units:
        raise InputError(
            f"the approach {model.config.approach.name!r} has no gates, so there are no masks: "
            "give a run of HAT"
        )
    row, hyper = model.rows[which.answering(model, task)], train.hyperparameters(model.config)
    return model.approach.gates(model.params, model.memory, row, hyper)


def live(model: Model, task: int) -> dict[str, Array]:
    """Which units `task` (from 0) uses, {layer: bool "units"}: those with a gate above DEAD.

    Raises InputError as `masks`, and for a task that the model has not learned.
    """
    gates = masks(model, task)
    if not model.learned[task]:
        raise which.not_learned(model, which.place(model, task))
    return jax.tree.map(lambda a: a > DEAD, gates)


def overlap(
    of: Model | Sequence[Mapping[str, Array]], axes: Tree = None, net: Tree = None
) -> np.ndarray:
    """The share of task i's weights that task j also uses, [i, j] in "T T" (the paper's Fig. 6).

    Call overlap(model) for a trained model, or overlap(a, axes, net) for any network with the gates
    `a` of each task, {gate: "units"}. A task uses a weight to the degree of the smallest gate of
    the units on its axes. A task that uses no weights has 0 overlap. Raises as hatjax.task_masks
    for each task of a model.
    """
    if isinstance(of, Model):
        return overlap_of(of, range(len(of.names)))
    if axes is None:
        which.check(of)
    return np.asarray(protection.overlap(of, axes, net))


def overlap_of(model: Model, tasks: Sequence[int]) -> np.ndarray:
    """`overlap` of some tasks of a model, [i, j] in their order. Raises as hatjax.task_masks."""
    gates = [masks(model, t) for t in tasks]
    found = protection.overlap(gates, model.network.axes["trunk"], model.params["trunk"])
    return np.asarray(found)
