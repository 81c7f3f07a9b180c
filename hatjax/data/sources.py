"""The image sets that hatjax knows by name, in the table SOURCES."""

import contextlib
import importlib.util
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from hatjax.data import npz, public, zipped
from hatjax.data.raw import ARRAYS, Raw, checked
from hatjax.errors import InputError


class Source(NamedTuple):
    """Where an image set comes from."""

    read: Callable[[Path], Raw]  # from the data root, downloading what is missing
    origin: str  # for messages
    files: str  # the files to put below the data root by hand
    # The published code's mean and standard deviation of the channels, for images in 0..1, by image
    # height (padding changes them).
    moments: Mapping[int, tuple[Sequence[float], Sequence[float]]] = {}
    keep: bool = True  # cache it as NAME.npz


def sklearn_folder() -> Path:
    """Where scikit-learn is installed. Its file is read without it: importing it takes seconds."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None and found.origin is not None  # pyproject.toml requires it
    return Path(found.origin).parent


def digits(where: Path) -> Raw:
    """scikit-learn's 1,797 handwritten digits, 8x8, grey, scaled to 0..255; every fifth tests."""
    table = np.loadtxt(sklearn_folder() / "datasets/data/digits.csv.gz", delimiter=",")  # n 65
    x, y = table[:, :-1], table[:, -1].astype(np.int64)
    x = np.round(x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    test = np.arange(len(y)) % 5 == 4
    return checked("scikit-learn's digits", x[~test], y[~test], x[test], y[test])


_IDX = "{train-images-idx3,train-labels-idx1,t10k-images-idx3,t10k-labels-idx1}-ubyte"
# The published code's repositories of FaceScrub-100 and notMNIST.
_FACES = "https://github.com/nkundiushuti/facescrub_subset/raw/master/data/facescrub_100.zip"
_LETTERS = "https://github.com/nkundiushuti/notmnist_convert/raw/master/notmnist.zip"
_CIFAR = {
    32: ([m / 255 for m in (125.3, 123.0, 113.9)], [s / 255 for s in (63.0, 62.1, 66.7)]),
}

SOURCES = {
    "digits": Source(digits, "scikit-learn", "nothing: it comes with the installation", keep=False),
    "mnist": Source(
        public.mnist("MNIST"),
        "torchvision.datasets.MNIST",
        f"MNIST/raw/{_IDX}",
        {28: ((0.1307,), (0.3081,)), 32: ((0.1,), (0.2752,))},
    ),
    "fashion_mnist": Source(
        public.mnist("FashionMNIST"),
        "torchvision.datasets.FashionMNIST",
        f"FashionMNIST/raw/{_IDX}",
        {32: ((0.2190,), (0.3318,))},
    ),
    "cifar10": Source(
        public.cifar("CIFAR10"),
        "torchvision.datasets.CIFAR10",
        "cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}",
        _CIFAR,
    ),
    "cifar100": Source(
        public.cifar("CIFAR100"),
        "torchvision.datasets.CIFAR100",
        "cifar-100-python/{train,test,meta}",
        _CIFAR,
    ),
    "svhn": Source(
        public.svhn,
        "torchvision.datasets.SVHN",
        "{train,test}_32x32.mat",
        {32: ((0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))},
    ),
    "gtsrb": Source(
        public.gtsrb,
        "torchvision.datasets.GTSRB",
        "gtsrb/{GTSRB/Training,GTSRB/Final_Test/Images,GT-final_test.csv}",
        {32: ((0.3398, 0.3117, 0.3210), (0.2755, 0.2647, 0.2712))},
    ),
    "facescrub": Source(
        zipped.reader(
            _FACES,
            "82e8049801f91dea209129c3a5918b93d08a68eb",
            "facescrub_train_100.pkl",
            "facescrub_test_100.pkl",
        ),
        _FACES,
        "facescrub_100.zip",
        {32: ((0.5163, 0.5569, 0.4695), (0.2307, 0.2272, 0.2479))},
    ),
    "notmnist": Source(
        zipped.reader(
            _LETTERS,
            "7ee09830b8e387acc5bc730276f14650b1e08437",
            "notmnist_train.pkl",
            "notmnist_test.pkl",
        ),
        _LETTERS,
        "notmnist.zip",
        {32: ((0.4254,), (0.4501,))},
    ),
}


def load(name: str, where: Path) -> Raw:
    """Load the known image set `name`, and cache it as `where`/NAME.npz.

    One process downloads and converts it while others wait. Raises InputError, beginning with its
    name, if its files are damaged, or missing and not downloadable.
    """
    source, kept = SOURCES[name], where / f"{name}.npz"
    if not source.keep:
        return source.read(where)
    with _locked(where / f".{name}.lock"):
        if kept.exists():  # another process was faster
            return npz.read(kept)
        raw = _read(name, where)
        try:
            npz.write(kept, raw)
        except OSError as error:  # a read-only folder or a full disk
            logging.warning(
                "%s is not kept as .npz in %s, and converted again next time: %s",
                name,
                where,
                error.strerror or error,
            )
    return raw


def _locked(path: Path) -> contextlib.AbstractContextManager:
    """A context that holds the lock file `path`; waits while another process holds it.

    Without a lock if the folder is not writable or its file system does not support locks.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # FileLock does not always notice
            pass
        return lock.acquire(timeout=0)
    except Timeout:
        logging.warning("waiting for another process that reads the same image set (%s)", path)
        return lock.acquire()
    except (OSError, NotImplementedError):
        return contextlib.nullcontext()


def _read(name: str, where: Path) -> Raw:
    """Read the image set `name` from its original files; InputError as in `load`."""
    source = SOURCES[name]
    try:
        return source.read(where)
    except InputError as error:
        raise InputError(f"image set {name!r}: {error}") from error
    except Exception as error:  # any error of a reader or a download
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"image set {name!r} could neither be read from {where} (files are missing, damaged or "
            f"have a wrong checksum) nor downloaded to it from {source.origin} ({reason}): put "
            f"{where / source.files} there yourself, or {name}.npz with {', '.join(ARRAYS)}; "
            "choose another data root by --config.data.root=DIR or $HATJAX_DATA; or train on "
            "images that need no download: configs/hat_digits.py"
        ) from error
