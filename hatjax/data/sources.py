"""The image sets that hatjax knows by name, and how each is had."""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hatjax.data import npz
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError


class Source(NamedTuple):
    """Where an image set comes from."""

    read: Callable[[Path], Raw]  # from the data root, downloading what is not there
    origin: str  # for people
    files: str  # what to put where by hand, below the data root
    keep: bool = True  # write it to NAME.npz, so that it is converted once


def digits(where: Path) -> Raw:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey 0..16; every fifth is a test image."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    test = np.arange(len(y)) % 5 == 4
    return checked("scikit-learn's digits", x[~test], y[~test], x[test], y[test])


def mnist(kind: str) -> Callable[[Path], Raw]:
    """MNIST or FashionMNIST, 28x28, from the idx files in NAME/raw, through torchvision."""

    def read(where: Path) -> Raw:
        from hatjax.data.vision import datasets

        dataset = getattr(datasets(), kind)
        parts = []
        for train in (True, False):
            part = _get(dataset, where, train=train)
            parts += [part.data.numpy(), part.targets.numpy()]
        return checked(str(where / kind), *parts)

    return read


def _get(dataset: type, where: Path, **which):
    """A torchvision data set from files already there, else downloaded."""
    try:
        return dataset(where, download=False, **which)
    except RuntimeError:  # torchvision's "Dataset not found"
        with contextlib.redirect_stdout(io.StringIO()):
            return dataset(where, download=True, **which)


_IDX = "{}/raw/{{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}}-ubyte"
SOURCES = {
    "digits": Source(digits, "scikit-learn", "nothing: it comes with the installation", keep=False),
    "mnist": Source(mnist("MNIST"), "torchvision.datasets.MNIST", _IDX.format("MNIST")),
    "fashion_mnist": Source(
        mnist("FashionMNIST"), "torchvision.datasets.FashionMNIST", _IDX.format("FashionMNIST")
    ),
}


def load(name: str, where: Path) -> Raw:
    """The known image set `name`, kept in `where`/NAME.npz for the next time.

    Raises InputError if its files are damaged, or neither there nor to be downloaded.
    """
    source = SOURCES[name]
    try:
        raw = source.read(where)
    except InputError:
        raise
    except Exception as error:  # whatever a reader or a download stumbles over
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"image set {name!r} could not be had from {source.origin} ({reason[-1]}): put "
            f"{where / source.files} or {where / f'{name}.npz'} there yourself, or train on what needs "
            "no download: --config configs/hat_digits.py"
        ) from error
    if source.keep:
        try:
            npz.write(where / f"{name}.npz", raw)
        except OSError as error:
            logging.warning("%s is not kept as .npz in %s: %s", name, where, error)
    return raw
