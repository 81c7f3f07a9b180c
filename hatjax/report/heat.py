"""The figures that are heat maps: matrices with the numbers in their cells."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from hatjax.report import style

MAX_ANNOTATED = 12  # rows or columns of a matrix with numbers in the cells
FITTING = 44  # characters that fit side by side into a map of one column's width


def heat(
    matrix: pd.DataFrame,
    colours: str,
    text: Callable[[int, int], str],
    limits: tuple[float, float],
    height: float | None = None,
) -> Figure:
    """A matrix as a heat map; its axes are labelled with the names of the frame, NaN stays blank.

    `colours` is the label of the colour bar, with its unit; `text` gives that of a cell, by row and
    column. The map is two columns wide where the texts need it.
    """
    r, c = matrix.shape
    cells = [text(i, j) for i in range(r) for j in range(c)] if max(r, c) <= MAX_ANNOTATED else []
    longest = max((len(line) for cell in cells for line in cell.split("\n")), default=0)
    width = style.WIDE if c * longest > FITTING else style.WIDTH
    height = height or min(max(0.9 + 0.62 * width * r / c, 1.5), 4.5)
    fig, ax = style.figure(height, width)
    image = coloured(ax, matrix.to_numpy(), limits, text if longest else None)
    ax.set(ylabel=matrix.index.name, xlabel=matrix.columns.name)
    for axis, names in ((ax.yaxis, matrix.index), (ax.xaxis, matrix.columns)):
        step = -(-len(names) // MAX_ANNOTATED)
        axis.set_ticks(range(0, len(names), step), [f"{name:g}" for name in names[::step]])
    colour_bar(fig, image, [ax], colours)
    return fig


def coloured(
    ax: Axes,
    numbers: np.ndarray,
    limits: tuple[float, float],
    text: Callable[[int, int], str] | None,
    size: float | None = None,
) -> AxesImage:
    """Draw numbers as colours between two limits, with a text in each cell that is not NaN."""
    image = ax.imshow(numbers, cmap=style.MAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.grid(False)
    size = size or (6 if numbers.shape[1] <= 8 else 5.2)
    for i, j in zip(*np.nonzero(np.isfinite(numbers)), strict=True):
        if text and text(i, j):
            red, green, blue, _ = image.cmap(image.norm(numbers[i, j]))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # as the eye weighs them
            ax.text(j, i, text(i, j), ha="center", va="center", fontsize=size,
                    color="white" if dark else "black")  # fmt: skip
    return image


def colour_bar(fig: Figure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    """Put the colour bar of an image beside the axes."""
    bar = fig.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(label)
    bar.outline.set_linewidth(0.4)


def of_tasks(matrix: np.ndarray, rows: str, columns: str) -> pd.DataFrame:
    """A matrix "T T" of shares in percent, with tasks counted from 1."""
    tasks = np.arange(1, len(matrix) + 1)
    return 100 * pd.DataFrame(matrix, pd.Index(tasks, name=rows), pd.Index(tasks, name=columns))


def percents(matrix: pd.DataFrame, colours: str, decimals: int) -> Figure:
    """A heat map of percents, with colours from 0 to 100 in every figure."""
    values = matrix.to_numpy()
    return heat(matrix, colours, lambda i, j: f"{values[i, j]:.{decimals}f}", (0, 100))


def accuracy(acc: np.ndarray, total: int) -> Figure:
    """The accuracy matrix "t t" of a run of `total` tasks, blank for those not learned yet."""
    n, every = len(acc), np.full((total, total), np.nan)
    every[:n, :n] = np.where(np.tri(n, dtype=bool), acc, np.nan)
    matrix = of_tasks(every, "after learning task", "accuracy on task")
    return percents(matrix, "test accuracy (%)", 1 if total <= 8 else 0)


def reuse(shares: np.ndarray) -> Figure:
    """The share of task i's weights that task j also uses, i < j, "T T" (the paper's Fig. 6)."""
    later = np.where(np.tri(len(shares), k=-1, dtype=bool).T, shares, np.nan)
    matrix = of_tasks(later, "weights of task i", "used again by task j").iloc[:-1, 1:]
    return percents(matrix, "reused weights (%)", 0)


def gates(masks: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """The units that each task uses: its gates {layer: "units"}, a panel for each layer.

    A row is a task. The units are sorted by the tasks that use them: first those of task 1, of
    these first those that task 2 uses, too.
    """
    layers = list(masks[0])
    fig = Figure(figsize=(style.WIDE, 0.5 + 0.16 * len(masks) + 0.45))
    axes = fig.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    for ax, layer in zip(axes, layers, strict=True):
        a = np.stack([np.asarray(mask[layer]) for mask in masks])  # "T units"
        order = np.lexsort(-np.round(a[::-1]))
        image = ax.imshow(a[:, order], cmap=style.MAP, vmin=0, vmax=1, aspect="auto",
                          interpolation="nearest")  # fmt: skip
        ax.grid(False)
        ax.set(title=layer, xlabel="unit, sorted")
    step = -(-len(masks) // MAX_ANNOTATED)
    axes[0].set_yticks(range(0, len(masks), step), range(1, len(masks) + 1, step))
    axes[0].set_ylabel("task")
    colour_bar(fig, image, list(axes), "gate")
    return fig


def settings(means: pd.DataFrame, deviations: pd.DataFrame, colours: str, least: float) -> Figure:
    """A metric over two settings (the paper's Fig. 4): the mean, and ± the spread over seeds.

    `deviations` is NaN where there is one seed. The colours have the middle of the means in their
    middle, and reach as far as the means do, but at least over the spread of the seeds and over
    `least` to either side: a smaller difference should not look like one that matters.
    """
    mean, deviation = means.to_numpy(), deviations.to_numpy()
    low, high = np.nanmin(mean), np.nanmax(mean)
    noise = np.sqrt(np.nanmean(deviation**2)) if np.isfinite(deviation).any() else 0
    reach = max((high - low) / 2, noise, least)

    def text(i: int, j: int) -> str:
        number = significant(mean[i, j])
        if not np.isfinite(deviation[i, j]):
            return number
        return f"{number}\n± {deviation[i, j]:.{len(number.partition('.')[2])}f}"

    limits = ((low + high) / 2 - reach, (low + high) / 2 + reach)
    height = max(0.9 + 0.42 * len(means), 2.3)
    return heat(means, colours, text, limits, height)


def significant(number: float) -> str:
    """A number with three significant digits, of those down to the fourth decimal: "-0.0312"."""
    if abs(number) < 1e-4 or abs(number) >= 1000:
        return f"{number:z.4f}" if abs(number) < 1 else f"{number:.0f}"
    return f"{number:#.3g}".rstrip(".")


def confusion(panels: Sequence[tuple[str, Sequence[str], np.ndarray]]) -> Figure:
    """Confusion matrices side by side, in percent of each true class.

    `panels` has a title, the names of the classes, and the counts "C C" of each, [i, j] of class i
    that are taken for class j. Shares below half a percent have no number.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    width = style.WIDTH if len(panels) == 1 else style.WIDE
    fig = Figure(figsize=(width, 0.6 + rows * (0.86 * width / max(columns, 1.3))))
    grid = fig.subplots(rows, columns, squeeze=False)
    for ax, (title, classes, counts) in zip(grid.flat, panels, strict=False):
        with np.errstate(invalid="ignore"):
            share = 100 * counts / counts.sum(axis=1, keepdims=True)
        n = len(classes)

        def text(i: int, j: int, share: np.ndarray = share) -> str:
            return f"{share[i, j]:.0f}" if share[i, j] >= 0.5 else ""

        image = coloured(ax, share, (0, 100), text if n <= MAX_ANNOTATED else None, 5.2)
        ax.set_title(textwrap.fill(title, 34), fontsize=6.5)
        step = -(-n // (2 * MAX_ANNOTATED))
        names = [name if len(name) <= 12 else f"{name[:11]}…" for name in classes[::step]]
        upright = sum(map(len, names)) > 24
        ax.set_xticks(range(0, n, step), names, rotation=90 if upright else 0, fontsize=5.5)
        ax.set_yticks(range(0, n, step), names, fontsize=5.5)
    for ax in grid.flat[len(panels) :]:
        ax.remove()
    fig.supxlabel("predicted class", fontsize=7.5)
    fig.supylabel("true class", fontsize=7.5)
    colour_bar(fig, image, list(grid.flat[: len(panels)]), "share of the true class (%)")
    return fig
