"""The image sets that hatjax knows by name, and how each is had."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hatjax.data import npz, public, zipped
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


_IDX = "{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte"
# The published code's repositories of FaceScrub-100 and notMNIST.
_FACES = "https://github.com/nkundiushuti/facescrub_subset/raw/master/data/facescrub_100.zip"
_LETTERS = "https://github.com/nkundiushuti/notmnist_convert/raw/master/notmnist.zip"
_face_zip = zipped.reader(
    _FACES,
    "82e8049801f91dea209129c3a5918b93d08a68eb",
    "facescrub_train_100.pkl",
    "facescrub_test_100.pkl",
)
_letter_zip = zipped.reader(
    _LETTERS,
    "7ee09830b8e387acc5bc730276f14650b1e08437",
    "notmnist_train.pkl",
    "notmnist_test.pkl",
)

SOURCES = {
    "digits": Source(digits, "scikit-learn", "nothing: it comes with the installation", keep=False),
    "mnist": Source(public.mnist("MNIST"), "torchvision.datasets.MNIST", f"MNIST/raw/{_IDX}"),
    "fashion_mnist": Source(
        public.mnist("FashionMNIST"),
        "torchvision.datasets.FashionMNIST",
        f"FashionMNIST/raw/{_IDX}",
    ),
    "cifar10": Source(
        public.cifar("CIFAR10"),
        "torchvision.datasets.CIFAR10",
        "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
    ),
    "cifar100": Source(
        public.cifar("CIFAR100"),
        "torchvision.datasets.CIFAR100",
        "cifar-100-python/{train,test,meta}",
    ),
    "svhn": Source(public.svhn, "torchvision.datasets.SVHN", "{train,test}_32x32.mat"),
    "gtsrb": Source(
        public.gtsrb,
        "torchvision.datasets.GTSRB",
        "gtsrb/{GTSRB/Training,GTSRB/Final_Test/Images,GT-final_test.csv}",
    ),
    "facescrub": Source(_face_zip, _FACES, "facescrub_100.zip"),
    "notmnist": Source(_letter_zip, _LETTERS, "notmnist.zip"),
}


def load(name: str, where: Path) -> Raw:
    """The known image set `name`, kept in `where`/NAME.npz for the next time.

    Raises InputError, beginning with its name, if its files are damaged, or neither there nor to be
    downloaded.
    """
    source = SOURCES[name]
    try:
        raw = source.read(where)
    except InputError as error:
        raise InputError(f"image set {name!r}: {error}") from error
    except Exception as error:  # whatever a reader or a download stumbles over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"image set {name!r} could neither be read from {where} nor had from {source.origin} "
            f"({reason}): put {where / source.files} there yourself, or {name}.npz with "
            f"{', '.join(Raw._fields)}, or train on what needs no download: configs/hat_digits.py"
        ) from error
    if source.keep:
        try:
            npz.write(where / f"{name}.npz", raw)
        except OSError as error:  # a folder that is only read from, or a full disk
            logging.warning(
                "%s is not kept as .npz in %s, and converted again next time: %s",
                name,
                where,
                error.strerror or error,
            )
    return raw
