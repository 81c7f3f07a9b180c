"""Errors whose message is for the user: main prints it as one line and exits with status 2."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """What was given cannot be used. The message names it, what was expected and what to do."""


class Diverged(RuntimeError):
    """Training met a loss that is not a number. The message gives task, epoch and step."""


class Interrupted(RuntimeError):
    """The run was told to stop, and has saved where it stands."""


class Unwritable(RuntimeError):
    """Results cannot be written any more. The message names the workdir and the reason."""


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in a table: lists the known and points at the nearest."""
    known = sorted(known)
    near = difflib.get_close_matches(name[:LONG], known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {what} {shown(name)}.{hint} Known: {', '.join(known)}.")


LONG = 100  # letters of a value that are shown


def shown(value: object) -> str:
    """A value as Python writes it, on one line and cut where that is too long."""
    try:
        text = repr(value).replace("\n", " ").strip()
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."


def oneline(error: Exception) -> str:
    """What an error of another library says, as a part of one line; its name if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 2 * LONG else f"{text[: 2 * LONG - 3]}..."
