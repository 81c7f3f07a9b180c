"""Read text, and arrays of .npy and .npz files, that may be damaged or malicious.

Nothing in them is executed or unpacked to the disk. An array is allocated only if the file is as
long as its header says, so that a false header cannot use up the memory.
"""

import contextlib
import math
import warnings
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from hatjax.data import memory
from hatjax.errors import oneline

HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def npy(path: Path) -> np.ndarray:
    """Read an array written by numpy.save; ValueError, with the reason, if that fails."""
    with opened(path) as file:
        return array(file, path.stat().st_size, path.name)


def npz(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays written by numpy.savez: all, or those of `names` that exist.

    ValueError, with the reason, for any other file, a damaged one, or one too large for memory.
    """
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
        members = {k: m for k, m in members.items() if names is None or k in names}
        total = sum(member.file_size for member in members.values())
        memory.fits(total, "what it declares to hold", "take a smaller file")
        found = {}
        for name, member in members.items():
            with archive.open(member) as part:
                found[name] = array(part, member.file_size, name)
        return found


def array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """Read an array from a file of `size` bytes; ValueError if its header declares more."""
    version = npy_format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"{name} is of the format's version {version}")
    shape, _, dtype = HEADERS[version](file)
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{name} declares {dtype} of shape {shape}, and has {size} bytes")
    file.seek(0)
    return npy_format.read_array(file, allow_pickle=False)


def text(path: Path) -> str:
    """The text of a regular file; ValueError for another (a pipe could block), and OSError."""
    if path.exists() and not path.is_file():
        raise ValueError("not a file")
    return path.read_text()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file (a pipe could block); any error in the context becomes a ValueError."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files written by Python 2
            yield file
    except Exception as error:  # NumPy and zipfile raise many exception types for damaged bytes
        raise ValueError(oneline(error)) from error
