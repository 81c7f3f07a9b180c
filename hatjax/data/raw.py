"""An image set in memory, and the checks that every one passes, whatever it was read from."""

from typing import NamedTuple

import numpy as np

from hatjax.errors import InputError


class Raw(NamedTuple):
    """A whole image set: uint8 images "n h w c" and int32 labels "n" in 0..classes-1."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1


def checked(where: str, x_train, y_train, x_test, y_test) -> Raw:
    """The arrays as a Raw: grey images "n h w" get a channel axis, labels become int32.

    Raises InputError, beginning with `where`, for other dtypes or shapes, for a length that differs
    between images and labels, an empty split, or labels that are not 0..classes-1 with every class
    among the training images.
    """
    splits = {}
    for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        x, y = np.asarray(x), np.asarray(y)
        if x.dtype != np.uint8 or x.ndim not in (3, 4):
            raise InputError(
                f"{where}: x_{split} is {x.dtype} of shape {x.shape}: expected uint8 images, "
                "[n, height, width] or [n, height, width, channels]"
            )
        if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
            raise InputError(
                f"{where}: y_{split} is {y.dtype} of shape {y.shape}: expected integer labels [n]"
            )
        if len(x) != len(y):
            raise InputError(f"{where}: {len(x)} images but {len(y)} labels in {split}")
        if 0 in x.shape:
            raise InputError(f"{where}: x_{split} of shape {x.shape} is empty: expected images")
        splits[split] = (x if x.ndim == 4 else x[..., None]), y
    (x_train, y_train), (x_test, y_test) = splits["train"], splits["test"]
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{where}: training images are {x_train.shape[1:]} but test images {x_test.shape[1:]}: "
            "expected one shape"
        )
    labels = np.unique(y_train)
    if not np.array_equal(labels, np.arange(len(labels))):
        raise InputError(
            f"{where}: y_train holds the labels {_some(labels)}: expected 0..classes-1 without gaps"
        )
    strange = np.setdiff1d(y_test, labels)
    if len(strange):
        raise InputError(
            f"{where}: y_test holds the labels {_some(strange)}, which y_train does not: expected "
            f"0..{len(labels) - 1}"
        )
    return Raw(x_train, y_train.astype(np.int32), x_test, y_test.astype(np.int32))


def _some(labels: np.ndarray) -> str:
    text = ", ".join(map(str, labels[:12]))
    return text + (", ..." if len(labels) > 12 else "")
