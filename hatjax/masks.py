"""What HAT's gates say of a trained model: the units of each task, the weights that tasks share."""

import jax
import jax.numpy as jnp
import numpy as np

from hatjax import train
from hatjax.errors import InputError
from hatjax.models import Model
from hatjax.transforms import held
from hatjax.types import Array

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
    s_max = train.hyperparameters(model.config)["s_max"]
    return model.network.gates(model.params, model.rows[task], s_max)


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


def overlap(model: Model) -> np.ndarray:
    """The share of task i's weights that task j uses too, [i, j] in "T T" (the paper's Fig. 6).

    A task uses a weight as far as it uses both its units, min(a_i, a_j). A task that uses nothing
    shares nothing. Raises as `masks`.
    """
    gates = [masks(model, t) for t in range(len(model.names))]

    @jax.jit
    def shared(a: dict[str, Array], b: dict[str, Array]) -> Array:
        both = jax.tree.map(jnp.minimum, a, b)
        return held(both, model.params["trunk"], model.network.axes)[1]

    used = np.array([[shared(a, b) for b in gates] for a in gates])
    own = np.diag(used)[:, None]
    return np.divide(used, own, out=np.zeros_like(used), where=own > 0)
