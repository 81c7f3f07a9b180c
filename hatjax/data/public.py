"""Readers of the public image sets that torchvision knows, from the files that it downloads."""

import contextlib
import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from hatjax.data import folder
from hatjax.data.raw import Raw, checked

SIDE = 32  # pixels of a resized traffic sign
PATIENCE = 60  # seconds that a download may stand still


def mnist(kind: str) -> Callable[[Path], Raw]:
    """MNIST or FashionMNIST: 60,000 and 10,000 grey images of 28x28, from the four idx files."""

    def read(where: Path) -> Raw:
        arrays = []
        for train in (True, False):
            part = _get(kind, where, train=train)
            arrays += [part.data.numpy(), part.targets.numpy()]
        return checked(f"{kind} in {where}", *arrays)

    return read


def cifar(kind: str) -> Callable[[Path], Raw]:
    """CIFAR10 or CIFAR100 (fine labels): 50,000 and 10,000 images of 32x32, from its pickles.

    torchvision compares their checksums before it reads them.
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

    The labels are the digits 0..9: torchvision has turned the files' 10 into 0.
    """
    arrays = []
    for split in ("train", "test"):
        part = _get("SVHN", where, split=split)
        arrays += [np.ascontiguousarray(part.data.transpose(0, 2, 3, 1)), part.labels]
    return checked(f"SVHN in {where}", *arrays)


def gtsrb(where: Path) -> Raw:
    """GTSRB: traffic signs of 43 classes, every image resized to 32x32.

    What torchvision downloads holds 26,640 training images. The paper has all 39,209; they are read
    where GTSRB_Final_Training_Images.zip has been unpacked in the folder gtsrb. 12,630 test images.
    """
    from hatjax.data.vision import datasets

    whole = where / "gtsrb" / "GTSRB" / "Final_Training" / "Images"
    train = datasets().ImageFolder(whole) if whole.is_dir() else _get("GTSRB", where, split="train")
    test = _get("GTSRB", where, split="test")
    return checked(f"GTSRB in {where / 'gtsrb'}", *_resized(train), *_resized(test))


def _resized(images) -> tuple[np.ndarray, np.ndarray]:
    """The images "n 32 32 3" and labels "n" of a torchvision data set of pictures."""
    x, y = np.zeros((len(images), SIDE, SIDE, 3), np.uint8), np.zeros(len(images), np.int32)
    samples = images.samples if hasattr(images, "samples") else images._samples
    for i, (path, label) in enumerate(samples):  # torchvision would decode any format
        y[i] = label
        picture = Image.fromarray(folder.picture(Path(path)))
        x[i] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return x, y


def _get(kind: str, where: Path, **which):
    """A torchvision data set from the files in `where`, else downloaded there.

    Raises ConnectionError with torchvision's reasons if neither can be done.
    """
    from hatjax.data.vision import datasets

    dataset = getattr(datasets(), kind)
    try:
        return dataset(where, download=False, **which)
    except RuntimeError as error:  # so torchvision says that the files are not there, or damaged
        found = str(error).split(".")[0]
    try:
        with contextlib.redirect_stdout(io.StringIO()), _bounded():
            return dataset(where, download=True, **which)
    except Exception as error:  # of the network, the disk or the archive
        raise ConnectionError(f"{found}; download: {error or type(error).__name__}") from error


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Connections that stand still for PATIENCE seconds are given up; torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
