"""Errors with a message for the user, which the commands print as one line."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Unusable input. The message names it, what was expected and what to do."""


class Diverged(RuntimeError):
    """The loss became NaN or infinite. The message gives task, epoch and step, or says that every
    epoch of a task failed."""


class Interrupted(RuntimeError):
    """The run was told to stop, and has saved a checkpoint."""


class Unwritable(RuntimeError):
    """Results cannot be written. The message names the workdir and the reason."""


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that is not in `known`: lists those, and suggests the closest one."""
    known = sorted(known)
    near = closest(name, known)
    hint = f" Did you mean {near!r}?" if near else ""
    return InputError(f"unknown {what} {shown(name)}.{hint} Known: {', '.join(known)}.")


def closest(name: str, known: Iterable[str]) -> str | None:
    """The name in `known` that is most like `name`, capitals aside; None if none is."""
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name[:LONG].lower(), lower, n=1)
    return lower[near[0]] if near else None


LONG = 100  # characters of a value that are shown


def shown(value: object) -> str:
    """The repr of a value, on one line, and cut if it is too long."""
    try:
        text = repr(value).replace("\n", " ").strip()
    except (RecursionError, ValueError):  # nested too deep, or a number of thousands of digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."


def oneline(error: BaseException) -> str:
    """The message of another library's error on one line, cut; its type if there is no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 2 * LONG else f"{text[: 2 * LONG - 3]}..."
