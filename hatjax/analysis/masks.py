"""What HAT's gates say of a trained model: the units of each task, the weights that tasks share."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from hatjax import protection
from hatjax.analysis.models import Model
from hatjax.errors import InputError
from hatjax.training import train
from hatjax.types import Array, Tree

# A gate up to this is closed: even thousands of such units together change an output by less than
# float32 rounds it. Most closed gates are exactly 0; these belong to embeddings of nearly 0.
DEAD = 1e-12


def masks(model: Model, task: int) -> dict[str, Array]:
    """The gates a^t of `task` (from 0, as learned) at s_max, {layer: "units"} in 0..1.

    Raises InputError for a task that the model does not have, or a model without gates.
    """
    if not model.network.units:
        raise InputError(
            f"the approach {model.config.approach.name!r} has no gates, so there are no masks: "
            "give a run of HAT"
        )
    if not 0 <= task < len(model.names):
        raise InputError(f"task {task}: the model has the tasks 0..{len(model.names) - 1}")
    hyper = train.hyperparameters(model.config)
    return model.approach.gates(model.params, model.memory, model.rows[task], hyper)


def live(model: Model, task: int) -> dict[str, Array]:
    """Which units `task` (from 0) uses, {layer: bool "units"}: those with a gate above DEAD.

    Raises InputError as `masks`, and for a task that is not learned.
    """
    gates = masks(model, task)
    if not model.learned[task]:
        raise InputError(
            f"task {model.names[task]!r} is not learned: the run ended before it, or it was "
            "forgotten"
        )
    return jax.tree.map(lambda a: a > DEAD, gates)


def overlap(
    of: Model | Sequence[Mapping[str, Array]], axes: Tree = None, net: Tree = None
) -> np.ndarray:
    """The share of task i's weights that task j uses too, [i, j] in "T T" (the paper's Fig. 6).

    overlap(model) of a trained model, or overlap(a, axes, net) of the gates `a` of each task,
    {gate: "units"}, on any network. A task uses a weight as far as it uses the units on all its
    axes, min(a_i, a_j). A task that uses nothing shares nothing. Raises as `masks`.
    """
    if not isinstance(of, Model):
        return np.asarray(protection.overlap(of, axes, net))
    gates = [masks(of, t) for t in range(len(of.names))]
    found = protection.overlap(gates, of.network.axes["trunk"], of.params["trunk"])
    return np.asarray(found)
