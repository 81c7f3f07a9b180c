"""An image set in memory, and the checks for all image sets, whatever they were read from."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from hatjax.data import columns, labels, lazy, scale
from hatjax.errors import InputError, shown

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Raw(NamedTuple):
    """A whole image set: images "n h w c", uint8 or float32, and int32 labels "n" from 0 on."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    names: labels.Labels | None = None  # of the classes 0, 1, ...; None: not known

    @property
    def classes(self) -> int:
        return int(self.y_train.max()) + 1


def checked(where: str, x_train, y_train, x_test, y_test, *, names=None) -> Raw:
    """The arrays, and the names of the classes if there are any, as a Raw.

    Grey images "n h w" get a channel axis; uint8 images stay, other numbers become float32; labels
    become int32. Raises InputError, beginning with `where`, for arrays of other shapes, for uint8
    beside other numbers, and as `numbers`, `channels_last`, `consistent` and `named`.
    """
    images = {"train": lazy.array(x_train), "test": lazy.array(x_test)}
    for split, x in images.items():
        if x.dtype.kind not in "buif" or x.ndim not in (3, 4):
            raise InputError(
                f"{where}: x_{split} is {x.dtype} of shape {x.shape}: expected images as numbers, "
                "[n, height, width] or [n, height, width, channels]"
            )
        channels_last(x.shape, f"{where}: x_{split}")
        x = numbers(x, f"{where}: x_{split}")
        images[split] = x if x.ndim == 4 else x[..., None]
    if images["train"].dtype != images["test"].dtype:
        raise InputError(
            f"{where}: x_train is {np.asarray(x_train).dtype} and x_test "
            f"{np.asarray(x_test).dtype}: give both in one unit and as one dtype"
        )
    raw = consistent(where, images["train"], y_train, images["test"], y_test)
    if names is None:
        return raw
    names = named(where, names, raw.classes)
    if raw.names and isinstance(raw.names[0], str) and raw.names != names:  # labels that are text
        raise InputError(
            f"{where}: the labels are text ({labels.some(raw.names)}), and classes names others: "
            "leave classes out, or give the labels as numbers"
        )
    return raw._replace(names=names)


def channels_last(shape: tuple[int, ...], where: str) -> None:
    """Raise InputError, beginning with `where`, for "n c h w", the order of axes in PyTorch.

    It assumes this order for shapes that would otherwise mean a strip of images with many channels:
    (60, 3, 8, 8) would be 3 x 8 pixels of 8 channels each.
    """
    if len(shape) != 4:
        return
    _, first, second, last = shape
    if last > 4 and second > 1 and (first <= 4 or first != second == last):
        raise InputError(
            f"{where} is of shape {shape}, which reads as {first} x {second} pixels of {last} "
            f"channels: expected [n, height, width, channels]; if it has {first} channels, give "
            "x.transpose(0, 2, 3, 1), else swap height and width: x.transpose(0, 2, 1, 3)"
        )


def named(where: str, names, classes: int) -> tuple[str, ...]:
    """The names of the classes; InputError if they are not one name for each, all different."""
    names = np.asarray(names)
    if names.dtype.kind not in "SUiu" or names.shape != (classes,):
        raise InputError(
            f"{where}: classes is {names.dtype} of shape {names.shape}: expected the names of the "
            f"{classes} classes, in the order of their labels; or leave it out"
        )
    found = tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        for name in names.tolist()
    )
    name, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise InputError(f"{where}: {times} classes are called {shown(name)}: name them apart")
    return found


def consistent(where: str, x_train: np.ndarray, y_train, x_test: np.ndarray, y_test) -> Raw:
    """Images "n h w c" with their labels as a Raw.

    Raises InputError, beginning with `where`, for a length that differs between images and labels,
    an empty split, training and test images of different shapes or units, and labels as
    labels.encoded, which says what they may be.
    """
    y_train = labels.flat(y_train, f"{where}: y_train")
    y_test = labels.flat(y_test, f"{where}: y_test")
    for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y):
            raise InputError(f"{where}: {len(x)} images but {len(y)} labels in {split}")
        if 0 in x.shape:
            raise InputError(f"{where}: x_{split} of shape {x.shape} is empty: expected images")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{where}: training images are {x_train.shape[1:]} but test images {x_test.shape[1:]}: "
            "expected one shape"
        )
    train, test, names = labels.encoded(where, y_train, y_test)
    if x_train.dtype != np.uint8:  # those are in one unit
        scale.check(x_test, scale.of(x_train), f"{where}: x_test")
    return Raw(x_train, train, x_test, test, names)


LARGEST = 1e38  # differences of such numbers are still finite in float32


def numbers(x, where: str, names: tuple[str, ...] = ()) -> np.ndarray:
    """An array of numbers: uint8 stays, even on the disk, to save memory; others become float32.

    Raises InputError, beginning with `where`, for other dtypes, and for what is not a finite number
    or too large for float32: in which rows and columns, which are called `names`.
    """
    try:
        x = lazy.array(x)
    except ValueError as error:
        raise InputError(f"{where}: expected an array of numbers, got {error}") from error
    if x.dtype.name in ("bfloat16", "float16"):  # the first is of JAX; NumPy calls its kind "V"
        x = x.astype(np.float32)
    if x.dtype.kind not in "buif":
        raise InputError(f"{where} is {x.dtype} of shape {x.shape}: expected numbers")
    if x.dtype == np.uint8:
        return x
    if (bad := ~np.isfinite(x)).any():
        raise InputError(
            f"{where} holds numbers that are not finite in {columns.rows_of(bad, names)}: leave "
            "those examples out, or fill them in"
        )
    if (bad := np.abs(x) > LARGEST).any():
        raise InputError(
            f"{where} holds numbers beyond {LARGEST:g}, too large for float32, in "
            f"{columns.rows_of(bad, names)}: divide them first"
        )
    return x.astype(np.float32)
