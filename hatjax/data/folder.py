"""Image sets as folders, one for each class: NAME/train/CLASS/* and NAME/test/CLASS/*.

TinyImageNet's own layout is read too: NAME/val/images are the test images, and
NAME/val/val_annotations.txt lists their classes.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hatjax.data import memory
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError, oneline

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
# No other format is decoded, whatever the file name: Pillow runs other programs for some.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")


def read(path: Path) -> Raw:
    """Read the image set in the folder `path`, in the layout of torchvision's ImageFolder.

    Classes are numbered in alphabetical order of their folders. Images are RGB, or grey if all
    are. Raises InputError for images of several sizes, unreadable images, more images than memory
    holds, classes that differ between train and test, or a missing or empty folder.
    """
    listed = path / "val" / "val_annotations.txt"
    splits = ("train",) if listed.is_file() else ("train", "test")
    names = {split: _classes(path / split) for split in splits}
    files = {
        split: [(f, c) for c, name in enumerate(classes) for f in _files(path / split / name)]
        for split, classes in names.items()
    }
    if listed.is_file():
        files["test"] = _listed(listed, names["train"])
    elif names["train"] != names["test"]:
        differ = sorted(set(names["train"]) ^ set(names["test"]))
        raise InputError(f"{path}: classes in only one of train and test: {', '.join(differ)}")
    width, height = _size(files["train"][0][0])
    for f, _ in files["train"] + files["test"]:  # before any is decoded
        if (found := _size(f)) != (width, height):
            raise InputError(
                f"{f}: {found[0]}x{found[1]} pixels, but {path} begins with {width}x{height}: "
                "expected one size; resize the images first"
            )
    total = sum(map(len, files.values()))
    memory.fits(
        2 * 3 * total * width * height,
        f"{path}: {total} images of {width}x{height} pixels, when read and stacked,",
        "make them smaller, or fewer",
    )
    images = {split: [_open(f) for f, _ in some] for split, some in files.items()}
    labels = {split: np.array([c for _, c in some], np.int32) for split, some in files.items()}
    grey = all(x.ndim == 2 for split in images.values() for x in split)
    x = {
        split: np.stack([a[..., None] if grey else _colour(a) for a in images[split]])
        for split in images
    }
    return checked(str(path), x["train"], labels["train"], x["test"], labels["test"])


def _classes(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder: expected one folder of images for each class")
    try:
        names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        empty = [name for name in names if not _files(path / name)]
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise InputError(f"{reason}: change its permissions") from error
    if not names or empty:
        where = path / (empty[0] if empty else "")
        raise InputError(f"{where}: no images: expected PNG or JPEG files")
    return names


def _listed(path: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """The images and classes in TinyImageNet's list; its lines are FILE, tab, CLASS, tab, more.

    InputError for any other line, or a class that is not one of `classes`.
    """
    found = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({oneline(error)})") from error
    for i, line in enumerate(lines):
        name, _, rest = line.partition("\t")
        label = rest.split("\t")[0]
        if Path(name).name != name or label not in classes:
            raise InputError(
                f"{path}, line {i + 1}: expected the name of an image, a tab and one of the "
                "classes of the folder train"
            )
        found.append((path.parent / "images" / name, classes.index(label)))
    if not found:
        raise InputError(f"{path} is empty: expected a line for each test image")
    return found


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in KINDS)


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the header of the file."""
    return _read(path, lambda image: image.size)


def _open(path: Path) -> np.ndarray:
    """A grey image "h w" or an RGB image "h w 3", uint8."""
    return _read(
        path, lambda image: np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    )


def picture(path: Path) -> np.ndarray:
    """An RGB image "h w 3", uint8; InputError if it cannot be read."""
    return _read(path, lambda image: np.asarray(image.convert("RGB")))


def _read(path: Path, get: Callable[[Image.Image], Any]) -> Any:
    """get(image) of an image file; InputError if it cannot be read."""
    try:
        if not path.is_file():  # reading a pipe could block forever
            raise ValueError("not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about harmless oddities
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                return get(image)
    except Exception as error:  # Pillow raises many exception types for a damaged file
        raise InputError(
            f"{path}: not a readable image ({oneline(error)}): replace or remove it"
        ) from error


def _colour(x: np.ndarray) -> np.ndarray:
    return np.repeat(x[..., None], 3, axis=-1) if x.ndim == 2 else x
