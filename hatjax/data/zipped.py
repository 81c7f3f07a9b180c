"""Readers of the image sets that the published code downloads as zip files of pickles."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hatjax.data import pickles, vision
from hatjax.data.raw import Raw, checked
from hatjax.errors import InputError, oneline


def reader(url: str, blob: str, train: str, test: str) -> Callable[[Path], Raw]:
    """A reader of the zip file at `url`, with the pickles `train` and `test` in it.

    The file is downloaded to the data root if it is missing. `blob` is its checksum, as computed by
    `blob_id`; InputError for any other.
    """

    def read(where: Path) -> Raw:
        path = where / url.rsplit("/", 1)[-1]
        if not path.exists():
            _download(url, path, blob)
        _check(path, blob)
        return checked(str(path), *_member(path, train), *_member(path, test))

    return read


def _download(url: str, path: Path, blob: str) -> None:
    """Download the file to `path`, where it appears once it is complete."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # left by a killed run; torchvision would take it for complete
    with vision.downloading() as datasets:
        datasets.utils.download_url(url, path.parent, part.name)
    _check(part, blob)
    part.replace(path)


def _check(path: Path, blob: str) -> None:
    if (found := blob_id(path)) != blob:
        raise InputError(
            f"{path}: wrong checksum ({found}, expected {blob}): it is damaged, incomplete or "
            "another version; remove it to download it again"
        )


def blob_id(path: Path) -> str:
    """The git object id of a file: the SHA-1 of "blob SIZE\\0" and its content.

    The published files are in git repositories, which provide no other checksum.
    """
    start = b"blob %d\0" % path.stat().st_size
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.sha1(start, usedforsecurity=False)
        ).hexdigest()


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
    except Exception as error:  # zipfile raises many exception types for damaged bytes
        raise InputError(
            f"{path}: not a readable zip file ({oneline(error)}): remove it to download it again"
        ) from error
    return _arrays(content, f"{path}, {name}")


def _arrays(content: dict[str, np.ndarray], where: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of {'features': "n c h w", 'labels': "n"}.

    The shape of 'features' is channels first, but the memory layout is channels last. The published
    code uses the shape as it is, which scrambles colour images.
    """
    x, y = content.get("features"), content.get("labels")
    if x is None or y is None or x.ndim != 4:
        raise InputError(
            f"{where}: expected a dict of 'features' [n, channels, height, width] and 'labels' [n]"
        )
    if x.size and not (0 <= x.min() and x.max() <= 255):  # false for NaN, too
        raise InputError(f"{where}: 'features' has values beyond 0..255: expected images")
    if not np.isin(y, np.arange(len(y))).all():
        raise InputError(f"{where}: 'labels' are not whole numbers from 0: expected classes")
    n, c, h, w = x.shape
    return x.astype(np.uint8).reshape(n, h, w, c), y.reshape(-1).astype(np.int32)
