"""Which training images are held out for validation."""

import numpy as np
from ml_collections import ConfigDict

from hatjax.data.tasks.images import take
from hatjax.types import Split


def order(n: int, seed: int) -> np.ndarray:
    """0..n-1 in the order that belongs to `seed`, the same as in the published code."""
    places = np.arange(n)
    np.random.RandomState(seed).shuffle(places)
    return places


def hold_out(config: ConfigDict, x: np.ndarray, y: np.ndarray) -> tuple[Split, Split]:
    """Training and validation split of the images "n h w c" and labels "n" of one task.

    A share of config.tasks.valid is held out, under fidelity "code" of config.tasks.valid_code. If
    that is 0, validation is the training set itself, as in the published code's MNIST experiments.
    """
    share = config.tasks.valid_code if config.fidelity == "code" else config.tasks.valid
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
