"""Which classes of a task a model takes for which."""

import numpy as np

from hatjax.analysis import models
from hatjax.analysis.models import Model


def confusion(model: Model, x: np.ndarray, y: np.ndarray, task: int) -> np.ndarray:
    """How many examples of each class of `task` are taken for which, int "classes classes".

    [i, j] counts those of class i that the model calls j. Images, labels and errors as for
    models.evaluate.
    """
    x, y = models.labelled(model, x, y, task)
    logits = models.predict(model, x, task)
    counts = np.zeros((logits.shape[1],) * 2, int)
    np.add.at(counts, (y.astype(int), np.argmax(logits, axis=-1)), 1)
    return counts


def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """The accuracy 0..1 on each class, from `confusion`; NaN for a class without examples."""
    with np.errstate(invalid="ignore"):
        return np.diag(counts) / counts.sum(axis=1)
