"""Readers of torchvision's public image sets, which it downloads if they are missing."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hatjax.data import folder, pictures, vision
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError

SIDE = 32  # of a resized traffic sign, in pixels
# The folders of GTSRB: all training images, those that torchvision downloads, test images.
FULL, TRAINING, TEST = "GTSRB/Final_Training/Images", "GTSRB/Training", "GTSRB/Final_Test/Images"
SIGNS = {FULL: 39_209, TRAINING: 26_640, TEST: 12_630}  # number of images in each


def mnist(kind: str) -> Callable[[Path], Raw]:
    """A reader of MNIST or FashionMNIST: 60,000 and 10,000 grey images of 28x28, in idx files."""

    def read(where: Path) -> Raw:
        _check_idx(where / kind / "raw")
        arrays = []
        for train in (True, False):
            part = _get(kind, where, train=train)
            arrays += [part.data.numpy(), part.targets.numpy()]
        return checked(f"{kind} in {where}", *arrays)

    return read


def cifar(kind: str) -> Callable[[Path], Raw]:
    """A reader of CIFAR10 or CIFAR100 (fine labels): 50,000 and 10,000 images of 32x32, in pickles.

    torchvision verifies their checksums before it reads them.
    """

    def read(where: Path) -> Raw:
        arrays = []
        for train in (True, False):
            part = _get(kind, where, train=train)
            arrays += [part.data, np.array(part.targets)]
        return checked(f"{kind} in {where}", *arrays)

    return read


def svhn(where: Path) -> Raw:
    """SVHN: 73,257 and 26,032 house numbers of 32x32, from two .mat files.

    Labels are the digits 0..9: torchvision replaces the files' label 10 by 0.
    """
    arrays = []
    for split in ("train", "test"):
        part = _get("SVHN", where, split=split)
        arrays += [np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), part.labels]
    return checked(f"SVHN in {where}", *arrays)


def gtsrb(where: Path) -> Raw:
    """GTSRB: traffic signs of 43 classes, every image resized to 32x32; 12,630 test images.

    torchvision downloads 26,640 training images. The paper has all 39,209; these are read if
    GTSRB_Final_Training_Images.zip has been unpacked in the folder gtsrb. Raises InputError if
    files are missing.
    """
    top = where / "gtsrb"
    labels = top / "GT-final_test.csv"
    if (top / TEST).is_dir() and not labels.exists():  # torchvision checks only the folder
        raise InputError(f"{labels} is missing: remove {top / TEST} to download both again")
    if (top / FULL).is_dir():
        name = FULL
    else:
        name = TRAINING
        _get("GTSRB", where, split="train")
    test = _get("GTSRB", where, split="test")._samples
    train = folder.files(top / name, folder.classes(top / name))  # torchvision reads hidden ones
    for path, found, count in (
        (top / name, len(train), SIGNS[name]),
        (top / TEST, len(folder.files(top / TEST, ["."])), SIGNS[TEST]),
    ):
        if found != count:  # perhaps unpacking was interrupted
            raise InputError(
                f"{path} has {found} images, not {count}: remove it to download it again, or "
                "unpack all of it"
            )
    return checked(f"GTSRB in {top}", *_resized(train), *_resized(test))


def _resized(samples: Sequence[tuple[str | Path, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Images "n 32 32 3" and labels "n" from pairs of an image file and its label."""
    x, y = np.zeros((len(samples), SIDE, SIDE, 3), np.uint8), np.zeros(len(samples), np.int32)
    for i, (path, label) in enumerate(samples):  # torchvision would decode any format
        y[i] = label
        x[i] = pictures.resized(pictures.colour(pictures.read(Path(path))), SIDE, SIDE)
    return x, y


def _get(kind: str, where: Path, **split):
    """torchvision's data set `kind` in `where`, downloaded if it is missing."""
    with vision.downloading() as datasets:
        return getattr(datasets, kind)(where, download=True, **split)


def _check_idx(folder: Path) -> None:
    """Raise InputError for an idx file in `folder` whose length does not match its header.

    torchvision does not notice a file that was only partly unpacked.
    """
    for path in sorted(folder.glob("*-ubyte")):
        with open(path, "rb") as file:
            head = np.frombuffer(file.read(16), np.uint8)
        axes = int(head[3]) if len(head) > 3 else 0
        sizes = head[4 : 4 + 4 * axes].tobytes()
        sizes = np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").tolist()
        said = 4 + 4 * axes + math.prod(sizes)
        if len(sizes) != axes or not axes or path.stat().st_size != said:
            raise InputError(
                f"{path} is damaged: it has {path.stat().st_size} bytes, not the {said} of its "
                "header; remove it to download it again"
            )
