"""Readers of the public image sets that torchvision knows, from the files that it downloads."""

import contextlib
import gzip
import io
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hatjax.data import download, folder
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError

SIDE = 32  # pixels of a resized traffic sign


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

    Raises ConnectionError with the reasons if neither can be done, and InputError, naming it, for a
    damaged file or a folder that cannot be written.
    """
    from hatjax.data.vision import datasets

    dataset = getattr(datasets(), kind)
    _check_idx(where / kind / "raw")
    try:
        return dataset(where, download=False, **which)
    except RuntimeError as error:  # so torchvision says that the files are not there, or damaged
        found = str(error).split(".")[0]
    with download.storing(where), download.alone(where / kind):
        try:
            ARCHIVES[kind](dataset, where, **which)
        except ConnectionError as error:
            raise download.Failed(f"{error} ({found})") from error
        # It finds the files, or unpacks the archive that it finds, and downloads nothing.
        with contextlib.redirect_stdout(io.StringIO()):
            return dataset(where, download=True, **which)


def _get_idx(dataset, where: Path, train: bool) -> None:
    folder = where / dataset.__name__ / "raw"
    for name, checksum in dataset.resources:
        archive = folder / name
        _fetch([mirror + name for mirror in dataset.mirrors], archive, checksum)
        with gzip.open(archive) as content, _all_at_once(archive.with_suffix("")) as part:
            with open(part, "wb") as file:
                shutil.copyfileobj(content, file)


def _get_cifar(dataset, where: Path, train: bool) -> None:
    _fetch([dataset.url], where / dataset.filename, dataset.tgz_md5)


def _get_svhn(dataset, where: Path, split: str) -> None:
    url, name, checksum = dataset.split_list[split]
    _fetch([url], where / name, checksum)


# Each split's archives, with their MD5, and the file or folder in each that is kept, as torchvision
# has them.
SIGNS = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
SIGN_FILES = {
    "train": [("GTSRB-Training_fixed.zip", "513f3c79a4c5141765e10e952eaa2478", "GTSRB/Training")],
    "test": [
        ("GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5", "GT-final_test.csv"),
        (
            "GTSRB_Final_Test_Images.zip",
            "c7e4e6327067d32654124b0fe9e82185",
            "GTSRB/Final_Test/Images",
        ),
    ],
}


def _get_signs(dataset, where: Path, split: str) -> None:
    for name, checksum, inside in SIGN_FILES[split]:
        archive, target = where / "gtsrb" / name, where / "gtsrb" / inside
        if not target.exists():
            _fetch([SIGNS + name], archive, checksum)
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(archive) as content, _all_at_once(target) as part:
                content.extractall(part.parent)
                os.replace(part.parent / inside, part)


ARCHIVES: dict[str, Callable] = {
    "MNIST": _get_idx,
    "FashionMNIST": _get_idx,
    "CIFAR10": _get_cifar,
    "CIFAR100": _get_cifar,
    "SVHN": _get_svhn,
    "GTSRB": _get_signs,
}


def _fetch(urls: Sequence[str], path: Path, checksum: str) -> None:
    """download.fetch from the first of several addresses that gives the file."""
    failures = []
    for url in urls:
        try:
            return download.fetch(url, path, checksum, download.md5)
        except ConnectionError as error:
            failures.append(f"{url}: {error}")
    raise ConnectionError("; ".join(failures))


@contextlib.contextmanager
def _all_at_once(target: Path) -> Iterator[Path]:
    """A path in a folder of its own; the file or folder that is put there becomes `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        part = Path(folder) / "part"
        yield part
        os.replace(part, target)


def _check_idx(folder: Path) -> None:
    """Raise InputError, naming it, for an idx file in `folder` that is not as long as it says."""
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
                "head; remove it to download it again"
            )
