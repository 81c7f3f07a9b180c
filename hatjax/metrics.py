"""What the accuracy matrix says. acc "T T": acc[t, u] is the accuracy on task u after task t."""

import numpy as np


def average_accuracy(acc: np.ndarray) -> float:
    """Mean accuracy on all tasks after the last: mean_u acc[T-1, u]."""
    return float(np.mean(acc[-1]))


def backward_transfer(acc: np.ndarray) -> float:
    """Mean change since a task was learned, mean_{u<T-1} acc[T-1, u] - acc[u, u]; 0 for one task.

    Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017, eq. 3.
    """
    return float(np.mean((acc[-1] - np.diag(acc))[:-1])) if len(acc) > 1 else 0.0


def forgetting(acc: np.ndarray) -> float:
    """Mean fall from the best accuracy before the last task.

    mean_{u<T-1} max_{u<=t<T-1} acc[t, u] - acc[T-1, u]; 0 for one task. Chaudhry et al., "Riemannian
    walk for incremental learning", ECCV 2018.
    """
    if len(acc) == 1:
        return 0.0
    seen = np.tril(np.ones(acc.shape, bool))
    best = np.max(np.where(seen, acc, -np.inf)[:-1], axis=0)
    return float(np.mean((best - acc[-1])[:-1]))
