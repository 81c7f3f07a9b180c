"""Figures for a notebook and a paper, those of the report: each function returns one of matplotlib.

    %matplotlib inline
    import hatjax.plot

    result = hatjax.fit(sets)
    hatjax.plot.accuracy(result.accuracy)
    hatjax.plot.gates(result.model).savefig("gates.pdf")

One column of a paper wide, in colours that colour-blind people can distinguish.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hatjax.analysis import masks
from hatjax.analysis.models import Model
from hatjax.errors import InputError
from hatjax.report import figures, heat, style

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """The function, which draws in the style of the report."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context():
            fig = draw(*args, **kwargs)
            fig.draw_without_rendering()  # the layout needs the style, too
            fig.set_layout_engine("none")
        return fig

    return drawn


@styled
def accuracy(acc: np.ndarray) -> Figure:
    """The accuracies "T T" of a run as a matrix: [t, u] on task u after task t.

    InputError for another shape.
    """
    acc = square(acc)
    return heat.accuracy(acc, len(acc))


@styled
def forgetting(
    runs: Mapping[str, np.ndarray | Sequence[np.ndarray]], task: int = 0
) -> Figure:
    """The accuracy on `task` (counted from 0) while later ones are learned, a line an approach.

    `runs` has the accuracies "T T" of each approach by its name, {"hat": result.accuracy}, or those
    of several seeds: then the line is their mean, and a band one standard deviation. InputError for
    a task that is not there, no runs, and seeds with different numbers of tasks.
    """
    if not isinstance(runs, Mapping) or not runs:
        raise InputError('plot.forgetting: no runs: give {"hat": result.accuracy}')
    every = {}
    for name, some in runs.items():
        some = list(some) if np.iterable(some) else []
        if not some:
            raise InputError(f"plot.forgetting: {name}: no accuracies: give result.accuracy")
        every[name] = [square(acc) for acc in (some if np.ndim(some[0]) == 2 else [some])]
        if len({len(acc) for acc in every[name]}) > 1:
            tasks = sorted({len(acc) for acc in every[name]})
            raise InputError(f"plot.forgetting: {name}: seeds of {tasks} tasks: give one number")
    try:
        return figures.forgetting(every, task)
    except ValueError as error:
        raise InputError(f"plot.forgetting: {error}") from error


@styled
def capacity(epochs: pd.DataFrame) -> Figure:
    """The share of each layer's units that the tasks so far use, over the epochs of a run.

    `epochs` is the frame of that name of hatjax.report.load(WORKDIR). InputError for a run
    without gates, several runs, or no epochs.
    """
    if epochs.empty:
        raise InputError("plot.capacity: no epochs: give those of a run that has trained")
    if "workdir" in epochs and epochs["workdir"].nunique() > 1:
        raise InputError("plot.capacity: the epochs are of several runs: give those of one")
    fig = figures.capacity(epochs)
    if fig is None:
        raise InputError("plot.capacity: the run has no gates: give one of HAT")
    return fig


@styled
def overlap(shares: np.ndarray | Model) -> Figure:
    """The share of task i's weights that a later task j uses too.

    Given are these shares "T T", as hatjax.overlap gives them, or a model. InputError for another
    shape, for a single task, and for a model as hatjax.overlap.
    """
    found = square(masks.overlap(shares) if isinstance(shares, Model) else shares)
    if len(found) < 2:
        raise InputError("plot.overlap: a single task: expected two or more")
    return heat.reuse(found)


@styled
def gates(model: Model) -> Figure:
    """The units that each task of a model of HAT uses, a panel for each layer.

    InputError for a model without gates, or one that has forgotten a task.
    """
    return heat.gates([masks.masks(model, t) for t in range(len(model.names))])


def square(matrix: Any) -> np.ndarray:
    """The matrix as an array "T T"; InputError for another shape."""
    found = np.asarray(matrix, float)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise InputError(f"a matrix of shape {found.shape}: expected a row and a column a task")
    return found
