"""Metrics of continual learning from accuracy matrices, and the capacity used from the gates.

acc is "T T": acc[t, u] is the accuracy on task u after task t, NaN if u was forgotten on purpose
(hatjax.forget); means leave out NaN.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from hatjax import protection
from hatjax.types import Approach, Network, Tree


def average_accuracy(acc: np.ndarray) -> float:
    """Mean accuracy on all tasks after the last: mean_u acc[T-1, u]."""
    return mean(acc[-1])


def backward_transfer(acc: np.ndarray) -> float:
    """Mean change since a task was learned, mean_{u<T-1} acc[T-1, u] - acc[u, u]; 0 for one task.

    Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017, eq. 3.
    """
    return mean((acc[-1] - np.diag(acc))[:-1])


def forgetting(acc: np.ndarray) -> float:
    """Mean drop from the best accuracy before the last task.

    mean_{u<T-1} max_{u<=t<T-1} acc[t, u] - acc[T-1, u]; 0 for one task. Chaudhry et al.,
    "Riemannian walk for incremental learning", ECCV 2018.
    """
    if len(acc) == 1:
        return 0.0
    seen = np.tril(np.ones(acc.shape, bool))
    best = np.max(np.where(seen, acc, -np.inf)[:-1], axis=0)
    return mean((best - acc[-1])[:-1])


def mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; 0 if all are."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else 0.0


def forward_transfer(acc: np.ndarray, single: np.ndarray) -> float:
    """Mean gain from earlier tasks, mean_{u>0} acc[u, u] - single[u, u]; 0 for one task.

    `single` "T T" is of the same tasks in the same order, each learned alone from fresh parameters
    (the approach sgd_restart). Lopez-Paz and Ranzato compare with untrained parameters instead,
    which is uninformative when every task has its own head.
    """
    return mean((np.diag(acc) - np.diag(single))[1:])


def intransigence(acc: np.ndarray, joint: np.ndarray) -> float:
    """Mean shortfall against joint training on a new task, mean_u joint[u, u] - acc[u, u].

    `joint` "T T" is of the same tasks in the same order, joint[t, u] after training on tasks 0..t
    together. Chaudhry et al., "Riemannian walk for incremental learning", ECCV 2018.
    """
    return mean(np.diag(joint) - np.diag(acc))


def after_every_task(metric: Callable[..., float], *accs: np.ndarray) -> np.ndarray:
    """A metric of matrices "T T" after each task, "T": entry t is that of tasks 0..t only."""
    return np.array([metric(*(a[:t, :t] for a in accs)) for t in range(1, len(accs[0]) + 1)])


def forgetting_ratio(acc: np.ndarray, random: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """rho^{<=t} after each task t, "T": 0 is as good as joint training, -1 as bad as guessing.

    rho^{u<=t} = (A^{u<=t} - A_R^u) / (A_J^{u<=t} - A_R^u) - 1 and its mean over u <= t (eq. 6).
    The three matrices "T T" are of the same tasks in the same order: acc[t, u] is A^{u<=t},
    random[u, u] is A_R^u, joint[t, u] is A_J^{u<=t}. Not finite where joint training is at chance,
    NaN where all tasks were forgotten on purpose.
    """
    guess, found = np.diag(random), []
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = (acc - guess) / (joint - guess) - 1
    for t, row in enumerate(rho):
        there = row[: t + 1][~np.isnan(acc[t, : t + 1])]
        found.append(there.mean() if len(there) else np.nan)
    return np.array(found)


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1) over seeds; the latter is 0 for one seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


SCARCE = 0.05  # with a smaller share of free units in a layer, a task may learn less


def scarce(past: dict[str, np.ndarray], replica: int) -> dict[str, float]:
    """The nearly full layers of a replica, with their share of free units, mean(1 - a^{<=t}).

    `past` holds the cumulative gates, {gate: "R units"}; {} for an approach without gates.
    """
    left = {layer: float(1 - np.mean(a[replica])) for layer, a in past.items()}
    return {layer: share for layer, share in left.items() if share < SCARCE}


def capacity(
    approach: Approach, network: Network, params: Tree, memory: Tree
) -> dict[str, dict[str, float]]:
    """The share of units and weights that the tasks so far use, for each gate and for "all".

    protection.used of the cumulative gates, as floats; {} for an approach without gates.
    """
    past = approach.past(memory)
    if not past:
        return {}
    used = jax.jit(lambda past: protection.used(past, network.axes["trunk"], params["trunk"]))(past)
    order = [*network.units, "all"]  # layers in order; JAX sorts dicts by key
    return {gate: {k: float(v) for k, v in used[gate].items()} for gate in order}
