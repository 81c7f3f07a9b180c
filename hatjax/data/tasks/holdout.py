"""The hold-out: which training images are used for validation."""

import numpy as np
from ml_collections import ConfigDict

from hatjax.data.tasks.images import take
from hatjax.fidelity import departures
from hatjax.types import Split


def order(n: int, seed: int) -> np.ndarray:
    """0..n-1 in the random order of `seed`, the same as in the published code."""
    places = np.arange(n)
    np.random.RandomState(seed).shuffle(places)
    return places


def hold_out(config: ConfigDict, x: np.ndarray, y: np.ndarray) -> tuple[Split, Split]:
    """The training and validation splits of a task's images "n h w c" and labels "n".

    Holds out the share config.tasks.valid (with fidelity "code", config.tasks.valid_code). If it is
    0, the training set is the validation set, as in the published code's MNIST experiments.
    """
    tasks = config.tasks
    share = tasks.valid if departures(config).usual_holdout else tasks.valid_code
    places = order(len(y), config.seed)
    if config.data.examples:
        places = places[: config.data.examples]
    if not share:
        places = np.sort(places)
        train = Split(take(x, places), y[places]) if config.data.examples else Split(x, y)
        return train, train
    held = int(share * len(places))
    valid, train = places[:held], places[held:]
    return Split(take(x, train), y[train]), Split(take(x, valid), y[valid])
