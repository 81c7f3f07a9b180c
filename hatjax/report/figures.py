"""The figures that are lines, each a function from numbers to a matplotlib figure."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hatjax.report import heat, style
from hatjax.report.names import paper
from hatjax.report.numbers import METRICS, over_seeds, spread, title

AXIS = 180  # points: about the length of the x axis between the first and the last number
SLOTS = 5  # shifts of lines that could lie on each other
MOST_MARKERS = 12  # on a line
LONGEST = 56  # characters of a name that fit into a line of the legend
MOST_VALUES = 8  # of a setting, each with a tick of its own
LEAST = 0.005  # of a metric: smaller differences between settings look alike (Fig. 4)


def legend(fig: Figure) -> None:
    """Put the legend below the axes, in as many columns as the names allow, and make room."""
    names = [name.split("\n") for name in fig.axes[0].get_legend_handles_labels()[1]]

    def width(columns: int) -> float:  # points; matplotlib, too, makes the first columns longer
        split = np.array_split(np.array([max(map(len, name)) for name in names]), columns)
        return sum(30 + 3.5 * part.max() for part in split)

    columns = next(
        n for n in (4, 3, 2, 1) if n == 1 or n <= len(names) and width(n) <= 72 * style.WIDTH
    )
    lines = -(-sum(map(len, names)) // columns)
    fig.set_figheight(fig.get_figheight() + 0.14 * lines)
    fig.legend(loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6,
               columnspacing=1.2)  # fmt: skip


def bars(ax: Axes, spreads: pd.DataFrame, x: str, metric: str, **look: Any) -> None:
    """Plot a metric over the column `x`, with the 95 % intervals as error bars."""
    mean = METRICS[metric].scale * spreads[metric]
    low, high = (METRICS[metric].scale * spreads[f"{metric} {end}"] for end in ("low", "high"))
    reach = np.maximum(np.nan_to_num(np.array([mean - low, high - mean])), 0)
    # Without any interval a plain line: its sample in the legend has no bar, either.
    ax.errorbar(spreads[x], mean, reach if reach.any() else None, elinewidth=0.5, capsize=1.2,
                capthick=0.5, **look)  # fmt: skip


def over_tasks(tasks: pd.DataFrame, metric: str) -> Figure | None:
    """A metric after every task, one line per approach; None if it is known after only one task.

    Means over seeds, with 95 % intervals as error bars. With rho, the paper's Fig. 3. The lines are
    set apart along x, so that no marker lies on another of nearly the same height.
    """
    there = over_seeds(tasks.assign(approach=tasks["approach"].map(paper))).dropna(subset=metric)
    learned = there["tasks learned"]
    if learned.nunique() < 2:
        return None
    fig, ax = style.figure(height=2.6)
    looks = style.of_names(there["approach"].unique())
    every = -(-int(learned.nunique()) // MOST_MARKERS)
    ends = (learned.min(), learned.max())
    aside = apart(there.groupby("approach", sort=False)[metric].mean(), ends, every)
    for name, line in there.groupby("approach", sort=False):
        place = line.assign(**{"tasks learned": line["tasks learned"] + aside[name]})
        some = (len(line) - 1) % every, every  # with the last
        bars(ax, place, "tasks learned", metric, label=textwrap.fill(name, LONGEST),
             zorder=3 if name.startswith(paper("hat")) else 2, markevery=some, errorevery=some,
             **looks[name])  # fmt: skip
    ticks = learned.unique()
    if len(ticks) > MOST_MARKERS:
        ticks = MaxNLocator(integer=True).tick_values(*ends)
    ax.set_xticks([t for t in ticks if ends[0] <= t <= ends[1]])
    ax.set(xlabel="number of tasks learned, t", ylabel=axis_label(metric))
    legend(fig)
    return fig


def apart(heights: pd.Series, ends: tuple[float, float], every: int) -> dict[str, float]:
    """How far to shift each line along x; `heights` has the mean height of each by name.

    Lines that follow each other in height get different ones of at most SLOTS shifts, a marker's
    width from each other where the distance of the markers, `every` units, allows it. `ends` are
    the smallest and largest x.
    """
    slots = min(len(heights), SLOTS)
    unit = AXIS / (ends[1] - ends[0])  # points
    shift = min(style.SETTINGS["lines.markersize"], 0.8 * every * unit / slots) / unit
    order = heights.sort_values(kind="stable").index
    return {name: ((i % slots) - (slots - 1) / 2) * shift for i, name in enumerate(order)}


def axis_label(metric: str, t: int | str = "t") -> str:
    """The axis label of a metric after t tasks."""
    axes = {
        "rho": rf"forgetting ratio $\rho^{{\leq {t}}}$",
        "average accuracy": f"average accuracy on tasks 1..{t} (%)",
    }
    return axes.get(metric, title(metric))


def forgetting(runs: Mapping[str, Sequence[np.ndarray]], task: int = 0) -> Figure:
    """The accuracy on a task (counted from 0) while later ones are learned, a line an approach.

    `runs` has the accuracy matrices "T T" of the seeds of each approach by its name, as in
    result.accuracy or accuracy.npy; of several, the mean and a band of one standard deviation.
    ValueError if a matrix has no such task.
    """
    fig, ax = style.figure(height=2.2)
    looks = style.of_names([paper(name) for name in runs])
    for name, matrices in runs.items():
        acc = np.stack(matrices)  # "seeds T T"
        if not 0 <= task < acc.shape[1]:
            raise ValueError(f"task = {task}: expected one from 0 to {acc.shape[1] - 1}")
        line = 100 * acc[:, task:, task]
        x = np.arange(task + 1, acc.shape[1] + 1)
        look = looks[paper(name)]
        ax.plot(x, line.mean(0), label=paper(name), **look)
        if len(line) > 1:
            mean, deviation = line.mean(0), line.std(0, ddof=1)
            ax.fill_between(x, mean - deviation, mean + deviation, color=look["color"],
                            alpha=0.15, linewidth=0)  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="number of tasks learned", ylabel=f"accuracy on task {task + 1} (%)")
    legend(fig)
    return fig


def hyperparameters(runs: pd.DataFrame) -> Figure | None:
    """rho of finished HAT runs over s_max and c (the paper's Fig. 4); None for a single setting.

    A heat map, or a line if only one of the two varies. Average accuracy if no run has rho.
    """
    runs = runs.rename(columns={"approach.s_max": r"$s_{\max}$", "approach.c": "c"})
    metric = "rho" if runs["rho"].notna().any() else "average accuracy"
    points = spread(runs.dropna(subset=metric), [r"$s_{\max}$", "c"])
    if len(points) < 2:
        return None
    scale = METRICS[metric].scale
    last = axis_label(metric, runs["tasks"].max())
    mean, deviation = (
        scale * points.pivot(index="c", columns=r"$s_{\max}$", values=value).iloc[::-1]
        for value in (metric, f"{metric} std")
    )
    if min(mean.shape) > 1:
        return heat.settings(mean, deviation, last, LEAST * scale)
    fig, ax = style.figure()
    x = "c" if len(mean) > 1 else r"$s_{\max}$"
    points = points.sort_values(x)
    bars(ax, points, x, metric, **style.of("hat"))
    ax.set(xlabel=x, ylabel=last)
    if points[x].min() > 0:
        ax.set_xscale("log")
    if len(points) <= MOST_VALUES:
        ax.set_xticks(points[x], [f"{v:g}" for v in points[x]])
        ax.set_xticks([], minor=True)
    return fig


def capacity(epochs: pd.DataFrame) -> Figure | None:
    """The share of each layer's units used by the tasks so far, over the epochs of a run.

    The paper's Fig. 5. None for a run without gates.
    """
    used = 100 * epochs.filter(regex="^used_").dropna(axis="columns", how="all")
    if used.empty:
        return None
    fig, ax = style.figure()
    lengths = epochs.groupby("task")["epoch"].max() + 1
    ends = lengths.cumsum()
    epoch = epochs["task"].map(ends - lengths) + epochs["epoch"] + 1  # not all need be there
    every = max(len(used) // MOST_MARKERS, 1)
    for i, layer in enumerate(used):
        start = i * every // used.shape[1]  # so that no marker lies on another
        ax.plot(epoch, used[layer], label=layer.removeprefix("used_"), markevery=(start, every),
                **style.numbered(i))  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for end in ends[:-1]:
        ax.axvline(end + 0.5, color="0.6", linewidth=0.6, linestyle=":")
    ax.set(xlabel="epoch, over all tasks (dotted: the next task begins)",
           ylabel="units used so far (%)", ylim=(0, 103),
           xlim=(0.5, ends.iloc[-1] + 0.5))  # fmt: skip
    legend(fig)
    return fig


def compression(epochs: Sequence[tuple[str, pd.DataFrame]]) -> Figure | None:
    """Validation accuracy against the weights kept, epoch by epoch (the paper's Fig. 7).

    `epochs` has the name of the image set and the epochs of each run of a single task. Each run is
    a line, in the style of its image set; the last epoch is marked. None if there is no such run.
    """
    if not epochs:
        return None
    fig, ax = style.figure(height=2.8)
    looks: dict[str, dict] = {}
    for name, run in epochs:
        label = name if name not in looks else None
        look = looks.setdefault(name, style.numbered(len(looks)) | {"markersize": 5})
        ax.plot(100 * run["kept"], 100 * run["valid_accuracy"], label=label, markevery=[-1], **look)
    ax.invert_xaxis()  # training goes from left to right
    ax.set(xlabel="weights kept (%)", ylabel="validation accuracy (%)")
    legend(fig)
    return fig
