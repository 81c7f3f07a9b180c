"""Readers of the image sets that the published code fetches as zip files of pickles."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hatjax.data import download, pickles
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError, oneline


def reader(url: str, blob: str, train: str, test: str) -> Callable[[Path], Raw]:
    """A reader of the zip file at `url` with two pickles in it, the members `train` and `test`.

    The file is downloaded to the data root if it is not there, and is `blob` to git.
    """

    def read(where: Path) -> Raw:
        path = where / url.rsplit("/", 1)[-1]
        download.fetch(url, path, blob)
        return checked(str(path), *_member(path, train), *_member(path, test))

    return read


def _member(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images "n h w c" and labels "n" of one pickle in the zip file `path`."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [m for m in archive.namelist() if m.rsplit("/", 1)[-1] == name]
            if not inside:
                some = ", ".join(archive.namelist()[:4]) or "nothing"
                raise InputError(f"{path}: no {name} in it, but {some}: get the file again")
            with archive.open(inside[0]) as file:
                content = pickles.load(file, f"{path}, {name}")
    except InputError:
        raise
    except Exception as error:  # damaged bytes make zipfile raise many kinds
        raise InputError(
            f"{path}: not a readable zip file ({oneline(error)}): remove it to download it again"
        ) from error
    return _arrays(content, f"{path}, {name}")


def _arrays(content: dict[str, np.ndarray], where: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of {'features': "n c h w", 'labels': "n"}.

    'features' says channels first, but its bytes are those of channels last. The published code
    takes the shape at its word, which scrambles colour images.
    """
    x, y = content.get("features"), content.get("labels")
    if x is None or y is None or x.ndim != 4:
        raise InputError(
            f"{where}: expected a dict of 'features' [n, channels, height, width] and 'labels' [n]"
        )
    if x.size and not (0 <= x.min() and x.max() <= 255):  # not a number fails this, too
        raise InputError(f"{where}: 'features' has values beyond 0..255: expected images")
    if not np.isin(y, np.arange(len(y))).all():
        raise InputError(f"{where}: 'labels' are not whole numbers from 0: expected classes")
    n, c, h, w = x.shape
    return x.astype(np.uint8).reshape(n, h, w, c), y.reshape(-1).astype(np.int32)
