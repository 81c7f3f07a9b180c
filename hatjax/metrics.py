"""What the accuracy matrix and the gates say.

acc is "T T": acc[t, u] is the accuracy on task u after task t, not a number if u was forgotten on
purpose (hatjax.forget); means are over the other tasks.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from hatjax.transforms import held
from hatjax.types import Network, Tree


def average_accuracy(acc: np.ndarray) -> float:
    """Mean accuracy on all tasks after the last: mean_u acc[T-1, u]."""
    return mean(acc[-1])


def backward_transfer(acc: np.ndarray) -> float:
    """Mean change since a task was learned, mean_{u<T-1} acc[T-1, u] - acc[u, u]; 0 for one task.

    Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017, eq. 3.
    """
    return mean((acc[-1] - np.diag(acc))[:-1])


def forgetting(acc: np.ndarray) -> float:
    """Mean fall from the best accuracy before the last task.

    mean_{u<T-1} max_{u<=t<T-1} acc[t, u] - acc[T-1, u]; 0 for one task. Chaudhry et al.,
    "Riemannian walk for incremental learning", ECCV 2018.
    """
    if len(acc) == 1:
        return 0.0
    seen = np.tril(np.ones(acc.shape, bool))
    best = np.max(np.where(seen, acc, -np.inf)[:-1], axis=0)
    return mean((best - acc[-1])[:-1])


def mean(values: np.ndarray) -> float:
    """The mean of those that are numbers; 0 if none is."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else 0.0


def forgetting_ratio(acc: np.ndarray, random: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """rho^{<=t} after each task t, "T": 0 is as good as joint training, -1 as bad as guessing.

    rho^{u<=t} = (A^{u<=t} - A_R^u) / (A_J^{u<=t} - A_R^u) - 1 and its mean over u <= t (eq. 6).
    The three matrices "T T" are of the same tasks in the same order: acc[t, u] is A^{u<=t},
    random[u, u] is A_R^u, joint[t, u] is A_J^{u<=t}. Not finite where joint training only guesses.
    """
    guess = np.diag(random)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = (acc - guess) / (joint - guess) - 1
    return np.array([rho[t, : t + 1].mean() for t in range(len(acc))])


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample, n - 1) of what several seeds gave."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def capacity(network: Network, params: Tree, memory: Tree) -> dict[str, dict[str, float]]:
    """The share of each gated layer that the tasks so far use; empty without gates.

    "units": mean of a^{<=t}. "weights": mean over the layer's kernel of min(a^{<=t}_i, a^{<=t}_j),
    what eq. 2 withholds from later tasks. "all" is the whole trunk.
    """
    past = memory.get("past", {})
    if not past:
        return {}
    shares, total = held(past, params["trunk"], network.axes)
    used = {
        layer: {"units": float(a.mean()), "weights": float(shares[layer]["kernel"])}
        for layer, a in past.items()
    }
    units = float(jnp.concatenate(list(past.values())).mean())
    return used | {"all": {"units": units, "weights": float(total)}}
