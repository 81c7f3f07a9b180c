"""Which training images are held out for validation."""

import numpy as np
from ml_collections import ConfigDict

from hatjax.types import Split


def order(n: int, seed: int) -> np.ndarray:
    """0..n-1 in the order that belongs to `seed`, the same as in the published code."""
    places = np.arange(n)
    np.random.RandomState(seed).shuffle(places)
    return places


def hold_out(config: ConfigDict, x: np.ndarray, y: np.ndarray) -> tuple[Split, Split]:
    """Training and validation split of the images "n h w c" and labels "n" of one task.

    A share of config.tasks.valid is held out. Under fidelity "code" nothing is, as in the published
    code's MNIST experiments: validation is the training set itself.
    """
    places = order(len(y), config.seed)
    if config.data.examples:
        places = places[: config.data.examples]
    if config.fidelity == "code":
        places = np.sort(places)
        train = Split(x[places], y[places]) if config.data.examples else Split(x, y)
        return train, train
    held = int(config.tasks.valid * len(places))
    valid, train = places[:held], places[held:]
    return Split(x[train], y[train]), Split(x[valid], y[valid])
