"""Image sets by name: from files in the data root, or from a known source."""

import os
from pathlib import Path

import numpy as np

from hatjax.data import folder, lazy, npz, sources
from hatjax.data.raw import Raw
from hatjax.errors import InputError, oneline, unknown

__all__ = ["Raw", "available", "load", "moments", "root"]


def root(given: str) -> Path:
    """The data root: `given`, else $HATJAX_DATA, else hatjax/data in the user's cache folder.

    InputError if it begins with ~USER for an unknown user.
    """
    chosen = given or os.environ.get("HATJAX_DATA")
    return _expanded(chosen) if chosen else cache() / "data"


def cache() -> Path:
    """The folder hatjax in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "hatjax"


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path}: there is no such home folder: give --config.data.root=DIR or $HATJAX_DATA, "
            "and $XDG_CACHE_HOME"
        ) from error


def load(name: str, where: Path, size: tuple[int, int] | None = None) -> Raw:
    """Load the image set `name`, which is one of these:

    1. the file NAME.npz in `where` with x_train, y_train, x_test, y_test;
    2. the folders NAME/train/CLASS and NAME/test/CLASS of images in `where`, brought to `size`,
       height and width, as in folder.read;
    3. if neither is there, a known source, downloaded to `where` and kept there as NAME.npz.

    Raises InputError if none exists, both of the first two do, or it cannot be used.
    """
    try:
        file, images = where / f"{name}.npz", where / name
        there = file.exists(), (images / "train").is_dir()
        if all(there):
            raise InputError(
                f"image set {name!r} is both {file} and the folder {images}: keep the one that is "
                "meant, and rename or remove the other"
            )
        if there[0]:
            return npz.read(file)
        if there[1]:
            return folder.read(images, size, cache() / "images")
        known = {*sources.SOURCES, *found(where)}
    except OSError as error:
        raise InputError(
            f"image set {name!r} cannot be read from {where} ({oneline(error)}): give the data "
            "root by --config.data.root=DIR or $HATJAX_DATA"
        ) from error
    if name not in sources.SOURCES:
        raise InputError(
            f"{unknown('image set', name, known)} Looked for in {where}: put one of your own there "
            f"as {name}.npz, or as folders {name}/train/CLASS and {name}/test/CLASS of images"
        )
    return sources.load(name, where)


def found(where: Path) -> list[str]:
    """The names of the image sets in a data root."""
    if not where.is_dir():
        return []
    names = [p.stem for p in where.glob("*.npz")]
    names += [p.parent.name for p in where.glob("*/train") if p.is_dir()]
    return [name for name in names if not folder.hidden(name)]


def available(name: str, where: Path) -> bool:
    """Whether `load` finds the image set without a download."""
    source = sources.SOURCES.get(name)
    return name in found(where) or (source is not None and not source.keep)


def moments(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation "c" of the channels of images "n h w c", on their scale.

    The published constants of the image set if there are any and the images are uint8, as they
    are meant for, else computed from `x`. The deviation of a constant channel is 1.
    """
    source = sources.SOURCES.get(name)
    published = source and source.moments.get(x.shape[1])
    if published and x.dtype == np.uint8 and len(published[0]) in (1, x.shape[3]):
        mean, std = (np.full(x.shape[3], 255 * np.asarray(m, np.float32)) for m in published)
        return mean, std
    if x.dtype != np.uint8 or x.shape[1:3] == (1, 1):
        mean, std = x.mean((0, 1, 2), dtype=float), x.std((0, 1, 2), dtype=float)
        # Rounding gives constants a tiny deviation; float32 has no numbers much below 1e-38.
        varies = (x.min((0, 1, 2)) < x.max((0, 1, 2))) & (std > 1e-30)
        return mean.astype(np.float32), np.where(varies, std, 1).astype(np.float32)
    counts = np.zeros((x.shape[3], 256), int)
    for some in lazy.blocks(x):
        counts += [np.bincount(c.ravel(), minlength=256) for c in np.moveaxis(some, -1, 0)]
    values, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / total
    std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
    varies = (np.sum(counts > 0, axis=1) > 1) & (std > 0)
    return mean.astype(np.float32), np.where(varies, std, 1).astype(np.float32)
