"""Image sets as NumPy archives: NAME.npz with x_train, y_train, x_test, y_test.

It may have `classes`, too: the names of the classes, in the order of their labels.
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from hatjax.data import reading
from hatjax.data.raw import ARRAYS, Raw, checked
from hatjax.errors import InputError


def read(path: Path) -> Raw:
    """Read the image set in `path` without executing anything. InputError if it cannot be used."""
    try:
        arrays = reading.npz(path, (*ARRAYS, "classes"))
    except ValueError as error:
        raise InputError(
            f"{path}: not a readable .npz file ({error}): expected what numpy.savez(path, "
            "x_train=..., y_train=..., x_test=..., y_test=...) writes; write or copy it again"
        ) from error
    if missing := [k for k in ARRAYS if k not in arrays]:
        raise InputError(f"{path}: no array {', '.join(missing)}: expected {', '.join(ARRAYS)}")
    found = {k: arrays[k] for k in ARRAYS}
    return checked(str(path), **found, names=arrays.get("classes"))


def write(path: Path, raw: Raw) -> None:
    """Write `raw` to `path` atomically: a reader sees the whole file or none."""
    arrays = {k: getattr(raw, k) for k in ARRAYS}
    if raw.names:
        arrays["classes"] = np.array(raw.names)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.chmod(part, 0o644)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
