"""Images that stay on the disk: arrays mapped into memory, and chosen rows of them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hatjax.errors import oneline

BLOCK = 2**26  # bytes that are read at a time where all images are looked at


class Rows:
    """The rows `places` of an array on the disk, which are read when they are asked for.

    It has of an array what reading images needs: rows are taken by an index, a slice or an array of
    places, and numpy.asarray reads all.
    """

    def __init__(self, x: np.ndarray, places: np.ndarray):
        self.whole, self.places = x, places
        self.shape, self.dtype = (len(places), *x.shape[1:]), x.dtype
        self.ndim, self.itemsize, self.strides = x.ndim, x.itemsize, x.strides

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.whole[self.places[rows]]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole[self.places], dtype)


def stays(x: Any) -> bool:
    """Whether it is an array on the disk, or Rows of one."""
    return isinstance(x, np.memmap | Rows)


def array(x: Any) -> np.ndarray:
    """As numpy.asarray, but an array on the disk stays there.

    ValueError for what is no array, and for a masked array with masked elements, whose values NumPy
    would bring back.
    """
    if np.ma.is_masked(x):
        raise ValueError("a masked array: leave out examples with masked elements, or fill them in")
    if stays(x):
        return x
    try:
        found = np.asarray(x)
    except (TypeError, RuntimeError) as error:  # of a tensor of torch that must be detached, say
        raise ValueError(oneline(error)) from error
    if found.dtype == object and not found.ndim:  # NumPy takes a sparse matrix or a generator so
        raise ValueError(
            f"a {type(x).__name__}: give x.toarray() of a sparse one, list(x) of a generator"
        )
    return found


def rows(x: Any, places: np.ndarray) -> Any:
    """x[places], those of an array on the disk as Rows; `places` may be a mask."""
    if not stays(x):
        return x[places]
    if places.dtype == bool:
        places = np.flatnonzero(places)
    return Rows(x.whole, x.places[places]) if isinstance(x, Rows) else Rows(x, places)


def blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """The images "n ..." in order, some at a time."""
    size = max(1, BLOCK // max(1, int(np.prod(x.shape[1:])) * x.itemsize))
    for first in range(0, max(1, len(x)), size):
        yield np.asarray(x[first : first + size])


def place(folder: Path, what: str, listed: list[Path]) -> Path:
    """Where the images of these files are kept: another file when one of them changes."""
    told = hashlib.sha256(what.encode())
    for f in listed:
        stat = os.stat(f)
        told.update(f"{f} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return folder / f"{told.hexdigest()[:32]}.npy"
