"""The figures, each a function from numbers to a matplotlib figure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hatjax import config as configs
from hatjax.report import style
from hatjax.report.names import paper
from hatjax.report.numbers import METRICS, over_seeds, spread, title
from hatjax.report.read import Record

MAX_ANNOTATED = 12  # rows or columns of a matrix with numbers in the cells


def heat(
    matrix: pd.DataFrame, colours: str, form: str, limits: tuple[float, float] | None = None
) -> Figure:
    """A matrix as a heat map; its axes are labelled with the names of the frame, NaN stays blank.

    `colours` is the label of the colour bar, with its unit; `form` formats the numbers in the map.
    """
    r, c = matrix.shape
    fig, ax = style.figure(height=min(max(0.9 + 0.62 * style.WIDTH * r / c, 1.5), 4.5))
    numbers = matrix.to_numpy()
    low, high = limits or (np.nanmin(numbers), np.nanmax(numbers))
    image = ax.imshow(numbers, cmap=style.MAP, vmin=low, vmax=high, aspect="auto")
    ax.grid(False)
    ax.set(ylabel=matrix.index.name, xlabel=matrix.columns.name)
    for axis, names in ((ax.yaxis, matrix.index), (ax.xaxis, matrix.columns)):
        step = -(-len(names) // MAX_ANNOTATED)
        axis.set_ticks(range(0, len(names), step), [f"{name:g}" for name in names[::step]])
    if max(r, c) <= MAX_ANNOTATED:
        for i, j in zip(*np.nonzero(np.isfinite(numbers)), strict=True):
            dark = numbers[i, j] < low + 0.55 * (high - low)
            ax.text(j, i, form.format(numbers[i, j]), ha="center", va="center",
                    fontsize=6 if c <= 8 else 5.2, color="white" if dark else "black")  # fmt: skip
    bar = fig.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(colours)
    bar.outline.set_linewidth(0.4)
    return fig


def of_tasks(matrix: np.ndarray, rows: str, columns: str) -> pd.DataFrame:
    """A matrix "T T" of shares in percent, with tasks counted from 1."""
    tasks = np.arange(1, len(matrix) + 1)
    return 100 * pd.DataFrame(matrix, pd.Index(tasks, name=rows), pd.Index(tasks, name=columns))


def accuracy(record: Record) -> Figure | None:
    """The accuracy matrix of a run, blank for tasks not learned yet; None for a single task."""
    n, total = len(record.acc), len(record.names)
    if n == 0 or total == 1:
        return None
    acc = np.full((total, total), np.nan)
    acc[:n, :n] = np.where(np.tri(n, dtype=bool), record.acc, np.nan)
    matrix = of_tasks(acc, "after learning task", "accuracy on task")
    return heat(matrix, "test accuracy (%)", "{:.1f}" if total <= 8 else "{:.0f}", (0, 100))


def reuse(shares: np.ndarray) -> Figure:
    """The share of task i's weights that task j also uses, i < j, "T T" (the paper's Fig. 6)."""
    later = np.where(np.tri(len(shares), k=-1, dtype=bool).T, shares, np.nan)
    matrix = of_tasks(later, "weights of task i", "used again by task j").iloc[:-1, 1:]
    return heat(matrix, "reused weights (%)", "{:.0f}", (0, 100))


def legend(fig: Figure, ncols: int = 4) -> None:
    """Put the legend below the axes."""
    fig.legend(loc="outside lower center", ncols=ncols, frameon=False, handlelength=2.6,
               columnspacing=1.2)  # fmt: skip


def bars(ax: Axes, spreads: pd.DataFrame, x: str, metric: str, **look: Any) -> None:
    """Plot a metric over the column `x`, with the 95 % intervals as error bars."""
    mean = METRICS[metric].scale * spreads[metric]
    low, high = (METRICS[metric].scale * spreads[f"{metric} {end}"] for end in ("low", "high"))
    reach = np.array([mean - low, high - mean])
    ax.errorbar(spreads[x], mean, np.nan_to_num(reach), elinewidth=0.5, capsize=1.2, capthick=0.5,
                **look)  # fmt: skip


def over_tasks(tasks: pd.DataFrame, metric: str) -> Figure | None:
    """A metric after every task, one line per approach; None if it is known after only one task.

    Means over seeds, with 95 % intervals as error bars. With rho, the paper's Fig. 3.
    """
    there = over_seeds(tasks).dropna(subset=metric)
    if there["tasks learned"].nunique() < 2:
        return None
    fig, ax = style.figure(height=3.1)
    for i, (label, line) in enumerate(there.groupby("approach", sort=False)):
        look = style.of(label) if label in configs.APPROACHES else style.numbered(i)
        front = 3 if label == "hat" else 2
        bars(ax, line, "tasks learned", metric, label=paper(label), zorder=front, **look)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="number of tasks learned, t", ylabel=axis_label(metric))
    legend(fig)
    return fig


def axis_label(metric: str, t: int | str = "t") -> str:
    """The axis label of a metric after t tasks."""
    axes = {
        "rho": rf"forgetting ratio $\rho^{{\leq {t}}}$",
        "average accuracy": f"average accuracy on tasks 1..{t} (%)",
    }
    return axes.get(metric, title(metric))


def hyperparameters(runs: pd.DataFrame) -> Figure | None:
    """rho of finished HAT runs over s_max and c (the paper's Fig. 4); None for a single setting.

    A heat map, or a line if only one of the two varies. Average accuracy if no run has rho.
    """
    runs = runs.rename(columns={"approach.s_max": r"$s_{\max}$", "approach.c": "c"})
    metric = "rho" if runs["rho"].notna().any() else "average accuracy"
    points = spread(runs.dropna(subset=metric), [r"$s_{\max}$", "c"])
    if len(points) < 2:
        return None
    scale, form = METRICS[metric].scale, METRICS[metric].form
    last = axis_label(metric, runs["tasks"].max())
    grid = scale * points.pivot(index="c", columns=r"$s_{\max}$", values=metric)
    if min(grid.shape) > 1:
        return heat(grid, last, form)
    fig, ax = style.figure()
    x = "c" if len(grid) > 1 else r"$s_{\max}$"
    points = points.sort_values(x)
    bars(ax, points, x, metric, **style.of("hat"))
    ax.set(xlabel=x, ylabel=last)
    if points[x].min() > 0:
        ax.set_xscale("log")
    return fig


def capacity(epochs: pd.DataFrame) -> Figure | None:
    """The share of each layer's units used by the tasks so far, over the epochs of a run.

    The paper's Fig. 5. None for a run without gates.
    """
    used = 100 * epochs.filter(regex="^used_").dropna(axis="columns", how="all")
    if used.empty:
        return None
    fig, ax = style.figure()
    epoch = np.arange(1, len(used) + 1)
    for i, layer in enumerate(used):
        ax.plot(epoch, used[layer], label=layer.removeprefix("used_"),
                markevery=max(len(used) // 12, 1), **style.numbered(i))  # fmt: skip
    for at in np.flatnonzero(np.diff(epochs["task"])):
        ax.axvline(at + 1.5, color="0.6", linewidth=0.6, linestyle=":")
    ax.set(xlabel="epoch, over all tasks (dotted: the next task begins)",
           ylabel="units used so far (%)", ylim=(0, 103),
           xlim=(0.5, len(used) + 0.5))  # fmt: skip
    legend(fig, ncols=5)
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
