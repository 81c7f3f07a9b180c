"""The figures, each a function from numbers to a matplotlib figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hatjax.report import style
from hatjax.report.groups import Group, Line
from hatjax.report.names import paper
from hatjax.report.numbers import METRICS, Values, after, at_end, tasks, title
from hatjax.report.read import Record

WRITTEN = 12  # so many rows of a matrix have room for numbers


def heat(
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    axes: tuple[str, str],
    colours: str,
    form: str,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """A matrix "r c" as a heat map; what is not a number stays blank.

    `axes` are the titles of rows and columns, `colours` that of the colours, with its unit.
    """
    r, c = matrix.shape
    fig, ax = style.figure(height=min(max(0.9 + 0.62 * style.WIDTH * r / c, 1.5), 4.5))
    low, high = limits or (np.nanmin(matrix), np.nanmax(matrix))
    image = ax.imshow(matrix, cmap=style.MAP, vmin=low, vmax=high, aspect="auto")
    ax.grid(False)
    ax.set(ylabel=axes[0], xlabel=axes[1])
    for axis, names in ((ax.yaxis, rows), (ax.xaxis, columns)):
        step = -(-len(names) // WRITTEN)
        axis.set_ticks(range(0, len(names), step), names[::step])
    if max(r, c) <= WRITTEN:
        for i, j in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
            dark = matrix[i, j] < low + 0.55 * (high - low)
            ax.text(j, i, form.format(matrix[i, j]), ha="center", va="center",
                    fontsize=6 if c <= 8 else 5.2, color="white" if dark else "black")  # fmt: skip
    bar = fig.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(colours)
    bar.outline.set_linewidth(0.4)
    return fig


def numbers(count: int) -> list[str]:
    return [str(i + 1) for i in range(count)]


def accuracy(record: Record) -> Figure:
    """The accuracy matrix of a run, blank where a task is not learned yet."""
    n, total = len(record.acc), len(record.names)
    matrix = np.full((total, total), np.nan)
    matrix[:n, :n] = np.where(np.tri(n, dtype=bool), 100 * record.acc, np.nan)
    return heat(
        matrix, numbers(total), numbers(total), ("after learning task", "accuracy on task"),
        "test accuracy (%)", "{:.1f}" if total <= 8 else "{:.0f}", (0, 100),
    )  # fmt: skip


def over_tasks(group: Group, lines: Sequence[Line], found: Values, metric: str) -> Figure | None:
    """A metric after every task, a line for each of `lines`; None if no run has it.

    Means over the seeds, with the 95 % interval as bars. With rho it is the paper's Fig. 3.
    """
    fig, ax = style.figure(height=3.1)
    m, total = METRICS[metric], tasks(group.records)
    for i, line in enumerate(lines):
        each = [(t, after(line, found, metric, t)) for t in range(1, total + 1)]
        each = [(t, s) for t, s in each if s]
        if not each:
            continue
        t, spreads = zip(*each, strict=True)
        mean = np.array([m.scale * s.mean for s in spreads])
        ends = np.array([s.interval or (s.mean, s.mean) for s in spreads]).T * m.scale
        look = style.of(line.approach) if not line.variant else style.numbered(i)
        ax.errorbar(
            t, mean, np.abs(ends - mean), label=paper(line.label), elinewidth=0.5, capsize=1.2,
            capthick=0.5, zorder=3 if line.approach == "hat" else 2, **look,
        )  # fmt: skip
    if not ax.lines:
        return None
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="number of tasks learned, t", ylabel=says(metric))
    fig.legend(loc="outside lower center", ncols=4, frameon=False, handlelength=2.6,
               columnspacing=1.2)  # fmt: skip
    return fig


def says(metric: str, t: int | str = "t") -> str:
    """The title of the axis of a metric after t tasks."""
    axes = {
        "rho": rf"forgetting ratio $\rho^{{\leq {t}}}$",
        "average accuracy": f"average accuracy on tasks 1..{t} (%)",
    }
    return axes.get(metric, title(metric))


def hyperparameters(group: Group, found: Values) -> tuple[Figure, str] | None:
    """rho, or else average accuracy, after the last task over s_max and c (the paper's Fig. 4).

    Over one of the two if the other does not vary. None if HAT ran with one setting alone.
    Returns the metric that it shows, too.
    """
    lines = {}
    for line in group.lines:
        if line.approach == "hat" and line.variant.keys() <= {"approach.s_max", "approach.c"}:
            own = line.records[0].config.approach
            lines[own.s_max, own.c] = line
    if len(lines) < 2:
        return None
    s_max, c = (sorted({point[k] for point in lines}) for k in range(2))
    ends = {
        metric: {point: at_end(line, found, metric) for point, line in lines.items()}
        for metric in ("rho", "average accuracy")
    }
    metric = "rho" if any(ends["rho"].values()) else "average accuracy"
    there = {point: s for point, s in ends[metric].items() if s}
    if len(there) < 2:
        return None
    scale, form = METRICS[metric].scale, METRICS[metric].form
    last = says(metric, tasks(group.records))
    if min(len(s_max), len(c)) > 1:
        matrix = np.full((len(c), len(s_max)), np.nan)
        for (s, k), spread in there.items():
            matrix[c.index(k), s_max.index(s)] = scale * spread.mean
        names = [[f"{v:g}" for v in axis] for axis in (c, s_max)]
        return heat(matrix, names[0], names[1], ("c", r"$s_{\max}$"), last, form), metric
    fig, ax = style.figure()
    k, label = (0, r"$s_{\max}$") if len(s_max) > 1 else (1, "c")
    points = sorted(there)
    mean = np.array([scale * there[p].mean for p in points])
    bars = np.array([there[p].interval or (there[p].mean,) * 2 for p in points]).T * scale
    ax.errorbar([p[k] for p in points], mean, np.abs(bars - mean), capsize=2, **style.of("hat"))
    ax.set(xlabel=label, ylabel=last)
    if min(points)[k] > 0:
        ax.set_xscale("log")
    return fig, metric


def capacity(record: Record) -> Figure | None:
    """The share of each layer's units used by the tasks so far, over the epochs (paper's Fig. 5).

    None for a run without gates.
    """
    layers = [k for k in (record.epochs or ({},))[0] if k.startswith("used_")]
    if not layers:
        return None
    fig, ax = style.figure()
    epoch = np.arange(1, len(record.epochs) + 1)
    task = np.array([row["task"] for row in record.epochs])
    every = max(len(epoch) // 12, 1)
    for i, layer in enumerate(layers):
        used = [100 * row[layer] for row in record.epochs]
        ax.plot(
            epoch, used, label=layer.removeprefix("used_"), markevery=every, **style.numbered(i)
        )
    starts = [*np.flatnonzero(np.diff(task, prepend=-1)), len(epoch)]
    for at in starts[1:-1]:
        ax.axvline(at + 0.5, color="0.6", linewidth=0.6, linestyle=":")
    ax.set(xlabel="epoch, over all tasks (dotted: the next task begins)",
           ylabel="units used so far (%)", ylim=(0, 103),
           xlim=(0.5, len(epoch) + 0.5))  # fmt: skip
    fig.legend(loc="outside lower center", ncols=5, frameon=False, handlelength=2.6)
    return fig


def reuse(shares: np.ndarray) -> Figure:
    """The share of task i's weights that task j uses too, for i < j, "T T" (the paper's Fig. 6)."""
    total = len(shares)
    matrix = np.where(np.tri(total, k=-1, dtype=bool).T, 100 * shares, np.nan)[:-1, 1:]
    axes = ("weights of task i", "used again by task j")
    return heat(
        matrix, numbers(total)[:-1], numbers(total)[1:], axes, "reused weights (%)", "{:.0f}",
        (0, 100),
    )  # fmt: skip


def compression(records: Sequence[Record]) -> Figure | None:
    """Validation accuracy against the weights kept, epoch by epoch (the paper's Fig. 7).

    Of runs of one task; a line for each run, a look for each image set. The last epoch is marked.
    None if there is no such run.
    """
    runs = [r for r in records if len(r.names) == 1 and r.epochs and "kept" in r.epochs[0]]
    if not runs:
        return None
    fig, ax = style.figure(height=2.8)
    names = {r.where: ", ".join(r.config.data.sets) for r in runs}
    looks = {name: style.numbered(i) for i, name in enumerate(dict.fromkeys(names.values()))}
    labelled = set()
    for record in runs:
        kept, right = (
            np.array([100 * row[k] for row in record.epochs]) for k in ("kept", "valid_accuracy")
        )
        name = names[record.where]
        ax.plot(kept, right, label=None if name in labelled else name, markevery=[-1],
                **looks[name] | {"markersize": 5})  # fmt: skip
        labelled.add(name)
    ax.invert_xaxis()  # training goes from left to right
    ax.set(xlabel="weights kept (%)", ylabel="validation accuracy (%)")
    fig.legend(loc="outside lower center", ncols=4, frameon=False, handlelength=2.6)
    return fig
