"""Image sets as folders: NAME/train/CLASS/* and NAME/test/CLASS/*, a class a folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")


def read(path: Path) -> Raw:
    """The image set in the folder `path`, as torchvision's ImageFolder lays it out.

    Classes are numbered in the alphabetical order of their folders. Images are RGB, or grey where
    all of them are. Raises InputError for images of several sizes, unreadable images, classes that
    differ between train and test, or a missing or empty folder.
    """
    names = {split: _classes(path / split) for split in ("train", "test")}
    if names["train"] != names["test"]:
        differ = sorted(set(names["train"]) ^ set(names["test"]))
        raise InputError(f"{path}: classes in only one of train and test: {', '.join(differ)}")
    images, labels = {}, {}
    for split, classes in names.items():
        files = [(f, c) for c, name in enumerate(classes) for f in _files(path / split / name)]
        images[split] = [_open(f) for f, _ in files]
        labels[split] = np.array([c for _, c in files], np.int32)
    grey = all(x.ndim == 2 for split in images.values() for x in split)
    size = images["train"][0].shape[:2]
    for split, classes in names.items():
        files = (f for name in classes for f in _files(path / split / name))
        for f, x in zip(files, images[split], strict=True):
            if x.shape[:2] != size:
                raise InputError(
                    f"{f}: {x.shape[1]}x{x.shape[0]} pixels, but {path} begins with "
                    f"{size[1]}x{size[0]}: expected one size; resize the images first"
                )
    x = {
        split: np.stack([a[..., None] if grey else _colour(a) for a in images[split]])
        for split in images
    }
    return checked(str(path), x["train"], labels["train"], x["test"], labels["test"])


def _classes(path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder: expected one folder of images for each class")
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    empty = [name for name in names if not _files(path / name)]
    if not names or empty:
        where = path / (empty[0] if empty else "")
        raise InputError(f"{where}: no images: expected PNG or JPEG files")
    return names


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.suffix.lower() in KINDS)


def _open(path: Path) -> np.ndarray:
    """A grey image "h w" or an RGB image "h w 3", uint8."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}): replace or remove it") from error


def _colour(x: np.ndarray) -> np.ndarray:
    return np.repeat(x[..., None], 3, axis=-1) if x.ndim == 2 else x
