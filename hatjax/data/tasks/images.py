"""Bring the images of several sets to one shape, using little memory."""

import numpy as np
from ml_collections import ConfigDict

from hatjax.data import Raw, lazy, memory, pictures
from hatjax.errors import InputError
from hatjax.fidelity import departures

# Sets that are enlarged from 28x28 to 32x32 by resizing, as in the published notMNIST file. Other
# grey sets of that size are padded by 2.
RESIZED = ("notmnist",)


def fit(config: ConfigDict, name: str, raw: Raw) -> Raw:
    """The image set `name` in the shape (h, w, c) of config.data.image; unchanged if that is ().

    Grey images repeated over several channels are NumPy views that take no memory: index them with
    `take`. Raises InputError for images that have neither 1 nor c channels, and for sizes that do
    not fit into memory.
    """
    x = {"x_train": raw.x_train, "x_test": raw.x_test}
    if name == "facescrub" and not departures(config).facescrub_as_stored:
        x = {k: scrambled(v) for k, v in x.items()}
    if config.data.image:
        h, w, c = config.data.image
        if raw.x_train.shape[3] not in (1, c):
            raise InputError(
                f"image set {name!r} has images of {raw.x_train.shape[3]} channels: "
                f"config.data.image = {tuple(config.data.image)} needs "
                + (f"{c}" if c == 1 else f"1 or {c}")
            )
        if raw.x_train.shape[1:3] != (h, w):
            memory.fits(
                sum(map(len, x.values())) * h * w * raw.x_train.shape[3] * raw.x_train.itemsize,
                f"config.data.image = {tuple(config.data.image)}: the images of {name!r} at that "
                "size",
                "choose a smaller one",
            )
        x = {k: repeated(sized(v, h, w, name not in RESIZED), c) for k, v in x.items()}
    return raw._replace(x_train=x["x_train"], x_test=x["x_test"])


def sized(x: np.ndarray, h: int, w: int, margin: bool = True) -> np.ndarray:
    """Images as "n h w c": grey ones padded with 2 black pixels if that fits, else resized."""
    n, *old, c = x.shape
    if old == [h, w]:
        return x
    if margin and c == 1 and old == [h - 4, w - 4]:
        return np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    new = np.empty((n, h, w, c), x.dtype)
    for i in range(n):
        new[i] = pictures.resized(x[i], h, w)
    return new


def repeated(x: np.ndarray, c: int) -> np.ndarray:
    """Grey images "n h w 1" as a view "n h w c"; images of c channels unchanged."""
    return np.broadcast_to(x, (*x.shape[:3], c), subok=True)


def take(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    """x[places], for images on the disk lazy.Rows; for a view of repeated grey images, such a view.
    """
    if x.strides[-1] or lazy.stays(x):
        return lazy.rows(x, places)
    return repeated(x[..., :1][places], x.shape[3])


def scrambled(x: np.ndarray) -> np.ndarray:
    """Images "n h w c" as the published code reads FaceScrub: memory interpreted as "n c h w"."""
    n, h, w, c = x.shape
    return x.reshape(n, c, h, w).transpose(0, 2, 3, 1)
