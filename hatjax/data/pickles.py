"""Pickles of NumPy arrays, read without running anything that stands in them."""

import pickle
import re
from collections.abc import Callable
from typing import IO, Literal

import numpy as np

from hatjax.errors import InputError, oneline


def load(file: IO[bytes], where: str) -> dict[str, np.ndarray]:
    """The arrays by name of a pickled dict; its other values are left out.

    The arrays are numeric, pickled by Python 2 or 3 and any NumPy. Raises InputError, beginning
    with `where`, if the pickle asks for anything but such arrays (it is not imported, let alone
    called), is damaged, or holds no dict.
    """
    try:
        content = _Unpickler(file, encoding="latin1").load()
    except _Foreign as error:
        raise InputError(
            f"{where}: refused: the pickle asks for {error}, but only numeric NumPy arrays are "
            "read; nothing in it was executed"
        ) from error
    except Exception as error:  # damaged bytes make an unpickler raise many kinds
        raise InputError(
            f"{where}: not a readable pickle ({oneline(error)}): get the file again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: a pickled {type(content).__name__}: expected a dict of arrays")
    return {k: v.value for k, v in content.items() if isinstance(v, _Array) and v.value is not None}


class _Foreign(Exception):
    """Names what a pickle asks for and does not get."""


class _Unpickler(pickle._Unpickler):
    """Gives a pickle the stand-ins below: not even NumPy's own constructors are at its command.

    It is the one written in Python, since that in C makes a table as long as a few bytes of the
    pickle tell it to.
    """

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in STAND_INS:
            raise _Foreign(f"{module}.{name}")
        return STAND_INS[module, name]


class _Dtype:
    """A numeric dtype: made of a code as in "u1", then told the order of its bytes."""

    def __init__(self, code: str, *_: object):
        if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}", code):
            raise _Foreign(f"the dtype {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array: made empty, then told what it is."""

    value: np.ndarray | None = None

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if isinstance(content, str):  # from Python 2
            content = content.encode("latin1")
        order: Literal["F", "C"] = "F" if fortran else "C"
        self.value = np.frombuffer(content, dtype.value).reshape(shape, order=order)


def _frombuffer(
    content: bytes, dtype: _Dtype, shape: tuple, order: Literal["F", "C"]
) -> _Array:
    """An array as pickle's protocol 5 has it."""
    array = _Array()
    array.value = np.frombuffer(content, dtype.value).reshape(shape, order=order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as pickle's protocols below 3 have them."""
    if encoding != "latin1":
        raise _Foreign(f"the encoding {encoding!r}")
    return text.encode(encoding)


class _Function:
    """A function that a pickle may call, but not give other defaults or attributes."""

    def __init__(self, function: Callable):
        self.call = function

    def __call__(self, *args: object) -> object:
        return self.call(*args)

    def __setstate__(self, state: object) -> None:
        raise _Foreign("a change of the function that it calls")


STAND_INS: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): None,  # the first argument of _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Function(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Array
    STAND_INS[f"{_core}.numeric", "_frombuffer"] = _Function(_frombuffer)
