"""Labels as people have them: numbers, text, one-hot rows."""

from numbers import Real

import numpy as np

from hatjax.data import lazy
from hatjax.errors import InputError, shown

Labels = tuple[str, ...] | tuple[int, ...]


def encoded(where: str, y_train, y_test) -> tuple[np.ndarray, np.ndarray, Labels | None]:
    """Training and test labels "n" as int32 in 0..classes-1, and what the classes are called.

    Text is numbered in alphabetical order, whole numbers by size; the third value has the labels as
    they were given, in that order, or is None if they are 0..classes-1 already. Raises InputError,
    beginning with `where`, for
    labels that are not read (`flat`), numbers below 0 or with gaps, and test labels that do not
    occur in training.
    """
    train, test = flat(y_train, f"{where}: y_train"), flat(y_test, f"{where}: y_test")
    if train.dtype.kind != test.dtype.kind and len(test):
        kinds = ["text" if y.dtype.kind == "U" else "numbers" for y in (train, test)]
        raise InputError(
            f"{where}: y_train holds {kinds[0]} and y_test {kinds[1]}: give both in one form"
        )
    known, places = np.unique(train, return_inverse=True)
    names = tuple(known.tolist())
    if known.dtype.kind != "U":
        first = max(int(known[0]), 0) if len(known) else 0
        if not np.array_equal(known, np.arange(first, first + len(known))):
            raise InputError(
                f"{where}: y_train holds the labels {some(known)}: expected 0..classes-1 without "
                "gaps, or as many whole numbers from another one on; if these are all classes, "
                "give y.astype(str)"
            )
    if len(strange := np.setdiff1d(test, known)):
        raise InputError(
            f"{where}: y_test holds the labels {some(strange)}, which y_train does not: expected "
            f"{of_classes(names)}"
        )
    unnamed = known.dtype.kind != "U" and not (len(known) and known[0])
    test = np.searchsorted(known, test)
    return places.astype(np.int32), test.astype(np.int32), None if unnamed else names


def indices(y, classes: Labels, where: str, task: int) -> np.ndarray:
    """Which of `classes` each of the labels "n" is; numbers may also index classes named by text.

    Raises InputError for labels that the task does not have, and as `flat`.
    """
    y = flat(y, where)
    if isinstance(classes[0], str) and y.dtype.kind != "U":
        classes = tuple(range(len(classes)))
    place = {label: i for i, label in enumerate(classes)}
    found = np.array([place.get(label, -1) for label in y.tolist()], int)
    if (found < 0).any():
        strange = y[found < 0][0].item()
        raise InputError(f"{where} hold {shown(strange)}: task {task} has {of_classes(classes)}")
    return found


def flat(y, where: str) -> np.ndarray:
    """Labels "n", as whole numbers or as text, from [n], [n, 1] or one-hot rows [n, classes].

    Whole floats and bools become integers. The columns of a one-hot table with names are the
    labels. Raises InputError, beginning with `where`, for anything else.
    """
    columns = getattr(y, "columns", None)
    try:
        y = lazy.array(y)
    except ValueError as error:
        raise InputError(f"{where}: expected an array of labels, got {error}") from error
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif one_hot(y):
        y = y.argmax(1) if columns is None else np.asarray(columns)[y.argmax(1)]
    if y.ndim != 1 or y.dtype.kind not in "buifOUST":
        raise InputError(
            f"{where} is {y.dtype} of shape {y.shape}: expected integer labels [n], or text, or "
            "one-hot rows [n, classes]"
        )
    return _whole(_unboxed(y, where), where)


def one_hot(y: np.ndarray) -> bool:
    """Whether "n k" holds one 1 a row, and else 0."""
    return (
        y.ndim == 2
        and len(y) > 0
        and y.dtype.kind in "buif"
        and bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())
    )


def _unboxed(y: np.ndarray, where: str) -> np.ndarray:
    """Text of any dtype as str, objects that are all text or all numbers as such."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind not in "OT":
        return y
    values = y.tolist()
    empty = [v for v in values if not isinstance(v, (str, Real)) or v != v]
    if empty:
        raise InputError(
            f"{where} holds {shown(empty[0])} in {len(empty)} of {len(y)} rows: expected text or "
            "whole numbers; leave those examples out"
        )
    texts = sum(isinstance(v, str) for v in values)
    if 0 < texts < len(values):
        raise InputError(f"{where} holds text and numbers: give all labels in one form")
    return np.array(values, str if texts else None) if values else np.zeros(0, int)


def _whole(y: np.ndarray, where: str) -> np.ndarray:
    """Text as it is, numbers as int64; InputError if they are not whole, or beyond 2**53."""
    if y.dtype.kind == "U":
        return y
    if y.dtype.kind == "O":  # Python's numbers beyond 64 bits
        y = y.astype(float)
    size = np.abs(y.astype(float))
    bad = ~((size <= 2.0**53) & (np.floor(size) == size))
    if bad.any():
        raise InputError(
            f"{where} is {y.dtype} of shape {y.shape}, and its labels hold {y[bad][0]:g} "
            f"({bad.sum()} of {len(y)} rows are no whole numbers): expected whole numbers or text"
        )
    return y.astype(np.int64)


def of_classes(classes: Labels) -> str:
    """The classes in words: "the labels 0..4" or "the classes cat, dog"."""
    if classes and isinstance(classes[0], str):
        return f"the classes {some(classes)}"
    return f"the labels {classes[0]}..{classes[-1]}" if classes else "none"


def some(labels) -> str:
    """At most twelve labels, separated by commas."""
    text = ", ".join(map(str, labels[:12]))
    return text + (", ..." if len(labels) > 12 else "")
