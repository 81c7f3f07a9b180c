"""Image sets as folders, one for each class: NAME/train/CLASS/* and NAME/test/CLASS/*.

TinyImageNet's own layout is read too: NAME/val/images are the test images, and
NAME/val/val_annotations.txt lists their classes.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

from hatjax.data import lazy, memory, pictures, reading
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError, oneline

Listed = list[tuple[Path, int]]  # image files and the labels of their classes
Size = tuple[int, int]  # height and width
IN_MEMORY = 0.25  # of the machine's memory: images that take more are kept on the disk, decoded


def read(path: Path, size: Size | None = None, kept: Path | None = None) -> Raw:
    """Read the image set in the folder `path`, in the layout of torchvision's ImageFolder.

    Classes are numbered in alphabetical order of their folders, but 2 comes before 10. Images are
    RGB, or grey if all are. Images of several sizes, and large ones, are brought to `size`, height
    and width, if it is given. Images that take more than the share IN_MEMORY of the memory are
    decoded once, into a file in the folder `kept`, and stay there (numpy.memmap), if that is given.
    Raises InputError for images of several sizes if `size` is not given, unreadable images, more
    images than memory or disk hold, classes that differ between train and test, or a missing or
    empty folder.
    """
    annotations = path / "val" / "val_annotations.txt"
    splits = ("train",) if annotations.is_file() else ("train", "test")
    names = {split: classes(path / split) for split in splits}
    listed = {split: files(path / split, names[split]) for split in splits}
    if annotations.is_file():
        listed["test"] = _annotated(annotations, names["train"])
    elif names["train"] != names["test"]:
        differ = _ordered(set(names["train"]) ^ set(names["test"]))
        raise InputError(f"{path}: classes in only one of train and test: {', '.join(differ)}")
    if names["train"] != sorted(names["train"]):
        logging.warning(
            "%s: classes are taken in the order of their numbers: %s; earlier versions of hatjax "
            "took them alphabetically, so that models trained then have other labels",
            path,
            ", ".join(names["train"][:12]) + (", ..." if len(names["train"]) > 12 else ""),
        )
    found = _check_sizes(path, listed["train"] + listed["test"], size, kept)
    labels = {split: np.array([c for _, c in some], np.int32) for split, some in listed.items()}
    every = [f for some in listed.values() for f, _ in some]
    images = _mapped(path, every, size, found, kept) if found else _images(path, every, size)
    x = {"train": images[: len(labels["train"])], "test": images[len(labels["train"]) :]}
    return checked(
        str(path), x["train"], labels["train"], x["test"], labels["test"], names=names["train"]
    )


def hidden(name: str) -> bool:
    """Whether a file or folder of this name was left by a program, and holds no data."""
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db")


def classes(path: Path) -> list[str]:
    """The folders in `path`, in order; InputError if there are none, or one has no images."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder: expected one folder of images for each class")
    try:
        names = _ordered(p.name for p in path.iterdir() if p.is_dir() and not hidden(p.name))
        empty = [name for name in names if not _files(path / name)]
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})"
        raise InputError(f"{reason}: change its permissions") from error
    if not names or empty:
        where = path / (empty[0] if empty else "")
        raise InputError(f"{where}: no images: expected PNG or JPEG files")
    return names


def files(path: Path, classes: list[str]) -> Listed:
    """The images in the folders `classes` of `path`, with their labels 0, 1, ..."""
    return [(f, label) for label, name in enumerate(classes) for f in _files(path / name)]


def _ordered(names: Iterable[str]) -> list[str]:
    """Names in alphabetical order, but numbers first, by what they count."""

    def key(name: str) -> tuple[bool, int, str]:
        number = name.isascii() and name.isdigit()
        return not number, int(name) if number else 0, name

    return sorted(names, key=key)


def _annotated(path: Path, classes: list[str]) -> Listed:
    """The images and classes in TinyImageNet's list; its lines are FILE, tab, CLASS, tab, more.

    InputError for any other line, or a class that is not one of `classes`.
    """
    found = []
    try:
        lines = reading.text(path).splitlines()
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
    """The images anywhere in a folder."""
    found = (p for p in path.rglob("*") if p.suffix.lower() in pictures.KINDS)
    return sorted(p for p in found if not any(map(hidden, p.relative_to(path).parts)))


def _check_sizes(path: Path, listed: Listed, size: Size | None, kept: Path | None) -> set[Size]:
    """Raise InputError, before an image is decoded, for what `_images` would refuse at the end.

    That is several sizes if `size` is not given (a picture may yet be turned), or more than memory
    holds. Returns the sizes of images that are to be kept on the disk (`read`), else none.
    """
    first, largest, found = pictures.size(listed[0][0]), 0, set()
    for f, _ in listed:
        width, height = pictures.size(f)
        largest = max(largest, width * height)
        found.add((height, width))
        if not size and sorted((width, height)) != sorted(first):
            raise _sizes(f, (height, width), path, first[::-1])
    height, width = size or first[::-1]
    if kept and 3 * len(listed) * width * height > IN_MEMORY * memory.size():
        return found
    memory.fits(
        2 * 3 * len(listed) * width * height + 4 * largest,
        f"{path}: {len(listed)} images of {width}x{height} pixels, when read and stacked,",
        "make them smaller, or fewer",
    )
    return set()


def _mapped(
    path: Path, listed: list[Path], size: Size | None, found: set[Size], kept: Path | None
) -> np.ndarray:
    """As `_images`, but in a file in `kept`, decoded if it is not there yet.

    `found` are the sizes of the images, as they are stored.
    """
    colour = lazy.place(kept or Path(), f"{path} {size}", listed)
    grey = colour.with_suffix(".grey.npy")
    try:
        colour.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(colour.with_suffix(".lock")):
            if not colour.exists() and not grey.exists():
                logging.warning("%s: decoding %d images, once, to %s", path, len(listed), colour)
                with tempfile.TemporaryDirectory(dir=colour.parent) as folder:
                    is_grey = _decode(path, listed, size, found, Path(folder) / "part.npy")
                    os.replace(Path(folder) / "part.npy", grey if is_grey else colour)
        x = np.load(grey if grey.exists() else colour, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: more images than the memory holds, which cannot be kept decoded as {colour} "
            f"({oneline(error)}): give another folder by $XDG_CACHE_HOME, or fewer images"
        ) from error
    return x[..., :1] if grey.exists() else x


def _decode(
    path: Path, listed: list[Path], size: Size | None, found: set[Size], where: Path
) -> bool:
    """Write the images of these files as an RGB array to `where`; whether all are grey.

    Their sizes are those of `_images`. OSError if the disk has no room.
    """
    small = size and (size[0] - 4, size[1] - 4)
    stay = small and all(sorted(s) == sorted(small) for s in found)
    shape = (small if stay else size) or pictures.read(listed[0]).shape[:2]
    need, free = 3 * len(listed) * shape[0] * shape[1], shutil.disk_usage(where.parent).free
    if need > free:  # writing to a mapped file where there is no room ends the process
        raise OSError(f"it takes {need / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free")
    out = np.lib.format.open_memmap(where, "w+", np.uint8, (len(listed), *shape, 3))
    grey = True
    for i, f in enumerate(listed):
        x = pictures.read(f)
        if stay and x.shape[:2] != small:  # a turned one
            return _decode(path, listed, size, {*found, x.shape[:2], (0, 0)}, where)
        if size and not stay:
            x = pictures.resized(x, *size)
        if x.shape[:2] != shape:
            raise _sizes(f, x.shape, path, shape)
        grey = grey and x.ndim == 2
        out[i] = pictures.colour(x)
    out.flush()
    return grey


def _sizes(f: Path, found: tuple[int, ...], path: Path, first: tuple[int, ...]) -> InputError:
    """The error for an image of another size, height and width, than the first one."""
    return InputError(
        f"{f}: {found[1]}x{found[0]} pixels, but {path} begins with {first[1]}x{first[0]}: "
        'expected one size; resize the images first, or by --config.data.image="(32,32,3)"'
    )


def _images(path: Path, listed: list[Path], size: tuple[int, int] | None) -> np.ndarray:
    """The images "n h w c" in these files, grey or RGB; InputError as in `read`.

    Images that lack a margin of 2 pixels to `size` stay as they are if all do:
    data.tasks.images.sized says what becomes of them.
    """
    found: list[np.ndarray] = []
    for f in listed:
        x = pictures.read(f)
        if size and x.shape[:2] != (size[0] - 4, size[1] - 4):
            x = pictures.resized(x, *size)
        if not size and found and x.shape[:2] != found[0].shape[:2]:
            raise _sizes(f, x.shape, path, found[0].shape)
        found.append(x)
    if size and len({x.shape[:2] for x in found}) > 1:
        found = [pictures.resized(x, *size) for x in found]
    grey = all(x.ndim == 2 for x in found)
    return np.stack([x[..., None] if grey else pictures.colour(x) for x in found])
