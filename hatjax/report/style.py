"""The style of the figures: one column of a paper wide, and readable without colour.

The colours are those of Okabe and Ito ("Color universal design", 2008), which colour-blind people
can distinguish. Each approach also has its own marker, for print in grey.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from hatjax import config as configs
from hatjax.report.names import paper

WIDTH = 3.4  # inches: a column of a two-column paper
WIDE = 7.0  # both columns

SETTINGS: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.constrained_layout.use": True,
    "figure.dpi": 200,
    "pdf.fonttype": 42,  # embedded TrueType fonts, as publishers want
    "svg.hashsalt": "hatjax",
}

# Their yellow is too pale for lines on white; this one is darker.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#B8A800"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H"]
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]

MAP = "cividis"  # colour map: uniform in grey, too, and for the colour-blind


def figure(height: float = 2.4, width: float = WIDTH):
    """A figure with a single axes; sizes are in inches."""
    fig = Figure(figsize=(width, height))
    ax = fig.subplots()
    # Said of the axes, too: matplotlib chooses ticks whenever it draws, by the labels' size, which
    # else would be that of the context in which the figure is drawn or saved.
    ax.tick_params(labelsize=SETTINGS["xtick.labelsize"])
    return fig, ax


def numbered(i: int) -> dict:
    """The look of the i-th of several lines; the first alone is black."""
    again, colour = divmod(i - 1, len(COLOURS) - 1) if i else (0, -1)
    return {
        "color": COLOURS[1 + colour],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[again % len(DASHES)],
        "markeredgewidth": 0.4,
        "markeredgecolor": "white",
    }


def of(approach: str) -> dict:
    """The look of an approach, the same in every figure."""
    return numbered(list(configs.APPROACHES).index(approach))


def of_names(names: Sequence[str]) -> dict[str, dict]:
    """The look of each line, by its name in figures, such as "HAT (c=0.1)".

    The first line of an approach has the approach's look, and the others looks that no approach
    has.
    """
    known = {paper(a): a for a in configs.APPROACHES}
    looks: dict[str, dict] = {}
    further = len(known)
    for name in names:
        approach = known.pop(name.split(" (")[0], None)
        looks[name] = of(approach) if approach else numbered(further)
        further += approach is None
    return looks


def context():
    """The context in which figures are made and saved."""
    return matplotlib.rc_context(SETTINGS)
