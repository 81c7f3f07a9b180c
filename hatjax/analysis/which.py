"""Which task of a model is meant, and whether the model answers for it."""

import operator
from typing import TYPE_CHECKING, Any

from hatjax.analysis.blocks import traced
from hatjax.errors import InputError, shown

if TYPE_CHECKING:
    from hatjax.analysis.models import Model


def check(model: Any) -> None:
    """Raise InputError for what is no model: the result of hatjax.fit, say, or a workdir."""
    if not hasattr(model, "learned"):
        raise InputError(
            f"a {type(model).__name__} is given where a model is expected: give result.model of "
            "hatjax.fit, or hatjax.load(WORKDIR)"
        )


def place(model: "Model", task: int) -> int:
    """`task`, a whole number of Python, NumPy or JAX, as an int.

    Raises InputError if it is none (True and False are none), or not a task of the model.
    """
    check(model)
    known = f"the model has the tasks 0..{len(model.names) - 1}"
    if traced(task):
        raise InputError(f"the task is traced, as inside jax.jit: {known}: give a whole number")
    try:
        found = None if isinstance(task, bool) else operator.index(task)
    except TypeError:
        found = None
    if found is None:
        given = shown(task)
        text = given.strip("'")
        raise InputError(f"task {text}: {known}: give a whole number, not {given}")
    if not 0 <= found < len(model.names):
        raise InputError(f"task {found}: {known}")
    return found


def answering(model: "Model", task: int) -> int:
    """As `place`, but InputError for a task that was forgotten on purpose, too."""
    found = place(model, task)
    if is_forgotten(model, found):
        raise not_learned(model, found)
    return found


def is_forgotten(model: "Model", task: int) -> bool:
    """Whether a task was forgotten on purpose, and not learned again since."""
    return task in model.forgotten and not model.learned[task]


def not_learned(model: "Model", task: int) -> InputError:
    """The error for a task that the model has not learned."""
    return InputError(
        f"task {model.names[task]!r} is not learned: the run ended before it, or it was forgotten"
    )
