"""Tables with named columns, as those of pandas and polars, beside plain arrays."""

from numbers import Real
from typing import Any

import numpy as np

from hatjax.errors import InputError, shown


def table(x: Any, where: str) -> tuple[Any, tuple[str, ...]]:
    """A table as an array "n d" with the names of its columns; anything else as it is, without.

    Raises InputError, beginning with `where`, for a column that does not hold numbers, or two of
    one name.
    """
    if not hasattr(x, "columns"):
        return x, ()
    keys = list(x.columns)
    names = tuple(map(str, keys))
    if not names:
        raise InputError(f"{where}: a table without columns: expected a column for each feature")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{where}: two columns are called {shown(twice)}: name them apart")
    parts = [_numbers(np.asarray(x[k]), f"{where}: column {shown(str(k))}") for k in keys]
    return np.stack(parts, 1), names


def ordered(x: Any, names: tuple[str, ...], known: tuple[str, ...], where: str) -> Any:
    """`x` "n d", whose columns are `names`, with its columns in the order of `known`.

    As it is where either has no names. InputError, naming them, for missing and unknown columns.
    """
    if not names or not known or names == known:
        return x
    missing = [name for name in known if name not in set(names)]
    more = [name for name in names if name not in set(known)]
    if missing or more:
        said = [f"lacks the columns {_listed(missing)}"] if missing else []
        said += [f"has the columns {_listed(more)}, which training did not have"] if more else []
        raise InputError(f"{where}: the table {' and '.join(said)}: give the columns of training")
    place = {name: i for i, name in enumerate(names)}
    return x[:, [place[name] for name in known]]


def rows_of(bad: np.ndarray, names: tuple[str, ...] = ()) -> str:
    """In words, where "n ..." is True: in how many rows, and of "n d" in which columns."""
    count = bad.reshape(len(bad), -1).any(1).sum() if bad.ndim else 1
    text = f"{count} of {len(bad) if bad.ndim else 1} rows"
    if bad.ndim != 2:
        return text
    hits = bad.sum(0)
    which = np.flatnonzero(hits)
    each = [f"column {shown(names[i]) if names else i}: {hits[i]}" for i in which[:SHOWN]]
    each += [f"and {len(which) - SHOWN} more columns"] * (len(which) > SHOWN)
    return f"{text} ({', '.join(each)}{'' if names else '; columns count from 0'})"


SHOWN = 6  # columns that a message lists


def _listed(names: list[str]) -> str:
    text = ", ".join(map(shown, names[:SHOWN]))
    return text + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    """A column of numbers; InputError, with the first other value, if it is not."""
    if values.ndim == 1 and values.dtype.kind in "buif":
        return values
    odd = [v for v in values.tolist() if not isinstance(v, Real)]
    if odd or values.ndim != 1:
        raise InputError(
            f"{where} is {values.dtype}, and holds {shown(odd[0]) if odd else 'no numbers'} in "
            f"{len(odd)} of {len(values)} rows: expected numbers"
        )
    return values.astype(float)
