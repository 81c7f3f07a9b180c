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

    Takes config.data.examples of the images (0: all) at random, and holds out the share
    config.tasks.valid of them, at least one. Each class gives its share, and keeps at least one
    image for training; where each has a single one, none is held out.

    With fidelity "code" classes do not count, and the share is config.tasks.valid_code. If that is
    0, the training set is the validation set, as in the published code's MNIST experiments.
    """
    ways, tasks = departures(config), config.tasks
    share = tasks.valid if ways.usual_holdout else tasks.valid_code
    places = order(len(y), config.seed)[: config.data.examples or None]
    if not share:
        places = np.sort(places)
        train = Split(take(x, places), y[places]) if config.data.examples else Split(x, y)
        return train, train
    held = int(share * len(places))
    if ways.stratified_holdout:
        places = mixed(places, y)
        held = min(max(held, 1), len(places) - len(np.unique(y[places])))
    valid, train = places[:held], places[held:]
    return Split(take(x, train), y[train]), Split(take(x, valid), y[valid])


def mixed(places: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`places` reordered so that any stretch of them has each class's share of it.

    The last ones are one of each class. Images of a class stay in the order of `places`.
    """
    labels, rank = y[places], np.empty(len(places))
    for label in np.unique(labels):
        (mine,) = np.nonzero(labels == label)
        rank[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
        rank[mine[-1]] = 1
    return places[np.argsort(rank, kind="stable")]
