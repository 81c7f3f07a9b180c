"""What a Jupyter notebook shows: progress that renews itself in place, accuracies as a table."""

import time
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from rich.console import Console

SECONDS = 0.1  # between two renewals: a browser shows no more
MOST_TASKS = 40  # of a table


class Page(Console):
    """A console in a notebook: one display, with the lines printed so far and a live line below.

    rich would make a display of every line, and its live ones need ipywidgets.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.kept: list[str] = []
        self.live = ""
        self.handle: Any = None
        self.renewed = 0.0

    def print(self, *texts: Any, **_: Any) -> None:
        """Add a line for good."""
        self.kept.append(" ".join(map(str, texts)))
        self.renew()

    def now(self, line: str) -> None:
        """Change the live line; "" takes it away."""
        self.live = line
        if not line or time.monotonic() - self.renewed > SECONDS:
            self.renew()

    def renew(self) -> None:
        """Show the lines as they are now."""
        lines = [*self.kept, self.live] if self.live else self.kept
        if self.quiet or not lines and self.handle is None:
            return
        from IPython.display import display  # a notebook has it

        shown = {"text/plain": "\n".join(lines)}
        if self.handle is None:
            self.handle = display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)
        self.renewed = time.monotonic()


def table(acc: np.ndarray, names: Sequence[str]) -> str:
    """The accuracies "T T" as a table in HTML, a row after each task; of many tasks the last row.

    [t, u] is that on task u after task t; NaN, of a task forgotten on purpose, is left blank.
    """

    def cell(t: int, u: int) -> str:
        return f"{100 * acc[t, u]:.1f}" if u <= t and np.isfinite(acc[t, u]) else ""

    total = len(acc)
    head = "".join(f"<th title='{escape(name)}'>{u + 1}</th>" for u, name in enumerate(names))
    body = "".join(
        f"<tr><th>{t + 1}</th>{''.join(f'<td>{cell(t, u)}</td>' for u in range(total))}</tr>"
        for t in range(0 if total <= MOST_TASKS else total - 1, total)
    )
    return (
        "<div style='overflow-x: auto'><table><caption>accuracy (%) on each task (column) after "
        f"learning each task (row)</caption><tr><th></th>{head}</tr>{body}</table></div>"
    )
