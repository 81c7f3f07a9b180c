"""Image sets by name: from files in the data root, or from a source that is known by name."""

import os
from pathlib import Path

import numpy as np

from hatjax.data import folder, npz, sources
from hatjax.data.raw import Raw
from hatjax.errors import unknown

__all__ = ["Raw", "load", "moments", "root"]

# Mean and standard deviation of the channels, of images in 0..1, as the published code has them.
MOMENTS = {"mnist": ((0.1307,), (0.3081,))}


def root(given: str) -> Path:
    """The data root: `given`, else $HATJAX_DATA, else hatjax/data in the user's cache folder."""
    chosen = given or os.environ.get("HATJAX_DATA")
    return Path(chosen).expanduser() if chosen else cache() / "data"


def cache() -> Path:
    """hatjax's folder in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hatjax"


def load(name: str, where: Path) -> Raw:
    """The image set `name`, looked for in this order:

    1. the file NAME.npz in `where` with x_train, y_train, x_test, y_test;
    2. the folders NAME/train/CLASS and NAME/test/CLASS of images in `where`;
    3. the known sources, downloaded to `where` and kept there as NAME.npz.

    Raises InputError if it is in none of them, or cannot be used.
    """
    if (where / f"{name}.npz").exists():
        return npz.read(where / f"{name}.npz")
    if (where / name / "train").is_dir():
        return folder.read(where / name)
    if name not in sources.SOURCES:
        raise unknown(f"image set (looked for in {where}; add your own as a file NAME.npz there)",
                      name, {*sources.SOURCES, *found(where)})
    return sources.load(name, where)


def found(where: Path) -> list[str]:
    """The names of the image sets that lie in a data root."""
    if not where.is_dir():
        return []
    files = [p.stem for p in where.glob("*.npz")]
    return files + [p.name for p in where.iterdir() if (p / "train").is_dir()]


def moments(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation "c" of the channels of uint8 images "n h w c", in 0..255.

    The published constants where there are some, else those of `x`.
    """
    if name in MOMENTS:
        mean, std = (255 * np.asarray(m, np.float32) for m in MOMENTS[name])
        return mean, std
    counts = np.stack([np.bincount(c.ravel(), minlength=256) for c in np.moveaxis(x, -1, 0)])
    values, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ values / total
    std = np.sqrt(counts @ values**2 / total - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1).astype(np.float32)
