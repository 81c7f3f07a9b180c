"""Read pickles of NumPy arrays without executing anything in them."""

import pickle
import re
from collections.abc import Callable
from typing import IO, Literal

import numpy as np

from hatjax.errors import InputError, oneline


def load(file: IO[bytes], where: str) -> dict[str, np.ndarray]:
    """The numeric arrays by name of a pickled dict; other values are left out.

    Reads pickles of Python 2 and 3 and any NumPy. Raises InputError, beginning with `where`, if the
    pickle is damaged, is not of a dict, or asks for any class or function that such arrays do not
    need; these are never imported.
    """
    try:
        content = _Unpickler(file, encoding="latin1").load()
    except _Foreign as error:
        raise InputError(
            f"{where}: refused: the pickle asks for {error}, but only numeric NumPy arrays are "
            "read; nothing in it was executed"
        ) from error
    except Exception as error:  # an unpickler raises many exception types for damaged bytes
        raise InputError(
            f"{where}: not a readable pickle ({oneline(error)}): get the file again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: a pickled {type(content).__name__}: expected a dict of arrays")
    return {k: v.value for k, v in content.items() if isinstance(v, _Array) and v.value is not None}


class _Foreign(Exception):
    """The pickle asks for something that is refused; the message names it."""


class _Unpickler(pickle._Unpickler):
    """Gives a pickle only STAND_INS, and not even NumPy's own constructors.

    Based on the unpickler in Python: the one in C allocates a table of any size that a few bytes of
    the pickle ask for.
    """

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in STAND_INS:
            raise _Foreign(f"{module}.{name}")
        return STAND_INS[module, name]


class _Dtype:
    """A numeric dtype: made from a code such as "u1"; the state then sets its byte order."""

    def __init__(self, code: str, *_: object):
        if not isinstance(code, str) or not re.fullmatch(r"[biuf]\d{1,2}", code):
            raise _Foreign(f"the dtype {code!r}")
        self.value = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array: made empty; the state then sets its content."""

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
    """An array in pickle protocol 5."""
    array = _Array()
    array.value = np.frombuffer(content, dtype.value).reshape(shape, order=order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    """Bytes in pickle protocols below 3."""
    if encoding != "latin1":
        raise _Foreign(f"the encoding {encoding!r}")
    return text.encode(encoding)


class _Function:
    """A function that a pickle may call but not modify."""

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
