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
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {what} {name!r}.{hint} Known: {', '.join(known)}.")
