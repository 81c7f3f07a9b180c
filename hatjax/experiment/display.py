"""Progress and results for people: a live line on a terminal, plain lines in a log."""

import contextlib
import errno
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Column

from hatjax.analysis import metrics
from hatjax.experiment import notebook, pace

MAX_COLUMNS = 12  # of a printed matrix


class Screen(Console):
    """A console that ignores a closed pipe and a closed terminal, so that the run can save.

    Ctrl-C also ends the `tee` of `| tee`.
    """

    def on_broken_pipe(self) -> None:
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()

    def _check_buffer(self) -> None:  # where rich writes
        try:
            super()._check_buffer()
        except OSError as error:
            if error.errno != errno.EIO:
                raise


class Reporter:
    """Prints the progress of training.

    On a terminal and in a notebook, the current epoch is one line that renews itself.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        batches: Sequence[int],  # of each task, in an epoch
        epochs: int,
        replicas: int = 1,
        quiet: bool = False,
        verbose: bool = False,  # every epoch is a line, where there is no live one
        earlier: Sequence[int] = (),  # epochs of each task that was learned before this start
    ):
        self.tasks, self.epochs, self.replicas, self.verbose = tasks, epochs, replicas, verbose
        self.console: Console = Screen(quiet=quiet, highlight=False, soft_wrap=True)
        if self.console.is_jupyter:
            self.console = notebook.Page(quiet=quiet)
        self.pace, self.said = pace.Pace(batches, epochs, earlier), time.monotonic()
        # The time left comes first: what does not fit the terminal is cut from the end.
        self.bar = Progress(
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=21)),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            console=self.console,
            transient=True,
        )
        self.live = self.bar.add_task("compiling ...", total=None, left="")

    def __enter__(self) -> "Reporter":
        if self.console.is_terminal:
            self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()
        if isinstance(self.console, notebook.Page):
            self.console.now("")

    def epoch(self, rows: Sequence[dict]) -> None:
        """Show an epoch; `rows` has its line of metrics.jsonl for each replica that still trains.

        Shows the mean over replicas.
        """
        row = mean(rows)
        row |= {k: rows[0][k] for k in ("task", "epoch")}
        self.pace.epoch()
        left = self.pace.words(row["task"], row["epoch"] + 1)
        steep = f"s {row['s_first']:.3g}..{row['s_last']:.3g}  " if "s_first" in row else ""
        kept = f"  weights kept {row['kept']:.1%}" if "kept" in row else ""
        line = (
            f"task {row['task'] + 1}/{len(self.tasks)}  epoch {row['epoch'] + 1}/{self.epochs}  "
            f"{steep}loss {row['train_loss']:.3f}  train {row['train_accuracy']:.1%}  "
            f"valid {row['valid_accuracy']:.1%} ({row['valid_loss']:.3f})  "
            f"lr {span(rows, 'lr')}{kept}"
        )
        if self.replicas > 1:
            line += f"  mean of {len(rows)} of {self.replicas} runs"
        if self.console.is_terminal:
            self.bar.update(self.live, description=line, left=left)
        elif isinstance(self.console, notebook.Page):
            self.console.now(f"{line}  {left}".rstrip())
        elif self.verbose or pace.due(row["epoch"] + 1, time.monotonic() - self.said):
            self.console.print(f"{line}  {left}".rstrip())
            self.said = time.monotonic()

    def warn_scarce(self, t: int, layers: Sequence[dict[str, float]]) -> None:
        """Warn before task t; `layers` has the shares of free units of each run that has few."""
        if not layers:
            return
        least = {
            name: min(some.get(name, 1) for some in layers) for some in layers for name in some
        }
        shares = ", ".join(f"{name} {share:.1%}" for name, share in least.items())
        runs = f" in {len(layers)} of {self.replicas} runs" if self.replicas > 1 else ""
        self.console.print(
            f"warning: few units are free before task {t + 1}/{len(self.tasks)}{runs} ({shares}), "
            "so it may learn less: widen the layers (--config.network.widths), or penalise units "
            "more, so that tasks use fewer (--config.approach.c)"
        )

    def task(self, t: int, epochs: int, seconds: float, acc: np.ndarray) -> None:
        """Report task t; acc "R t+1" holds the runs' test accuracies on the tasks so far."""
        count, acc = len(acc), acc.mean(axis=0)
        self.pace.task(epochs)
        before = f", on earlier tasks {acc[:-1].mean():.1%}" if t else ""
        name = f" {self.tasks[t]}" if self.replicas == 1 else ""
        runs = "" if self.replicas == 1 else f", mean of {count} runs"
        self.console.print(
            f"task {t + 1}/{len(self.tasks)}{name}: test accuracy {acc[-1]:.1%}"
            f"{before} ({epochs} epochs, {seconds:.1f} s{runs})"
        )


def mean(rows: Sequence[dict]) -> dict:
    """The means over runs of their lines of metrics.jsonl; without s if their s_max differ."""
    steep = [k for k in ("s_first", "s_last") if k in rows[0]]
    differ = any(not math.isclose(r[k], rows[0][k], rel_tol=1e-5) for r in rows for k in steep)
    keys = [k for k in rows[0] if not (differ and k in steep)]
    return {k: sum(r[k] for r in rows) / len(rows) for k in keys}


def span(rows: Sequence[dict], key: str) -> str:
    """A number of the runs, "0.05", or the smallest and the largest, "0.0019..0.05"."""
    ends = [f"{end(r[key] for r in rows):.2g}" for end in (min, max)]
    return "..".join(dict.fromkeys(ends))


def comparison(accs: dict[str, np.ndarray], where: Path) -> str:
    """The results of a sweep as text: each run, and means over seeds.

    `accs` has the accuracies "T T" of each run by name; `where` is the sweep's folder.
    """
    rows = {
        name: (metrics.average_accuracy(a), metrics.backward_transfer(a))
        for name, a in accs.items()
    }
    settings: dict[str, list[str]] = {}
    for name in rows:
        settings.setdefault("-".join(name.split("-")[1:]) or "all", []).append(name)
    width = max(map(len, [*rows, *settings, "mean"])) + 2
    lines = ["", f"{'run':{width}}average accuracy  backward transfer"]
    lines += [f"{name:{width}}{a:16.2%}  {b:+17.2%}" for name, (a, b) in rows.items()]
    if len(settings) < len(rows):
        lines += ["", f"{'mean':{width}}average accuracy         seeds"]
    for setting, names in settings.items():
        if len(settings) < len(rows):
            mean, deviation = metrics.over_seeds([rows[name][0] for name in names])
            lines.append(f"{setting:{width}}{mean:8.2%} ± {deviation:6.2%}  {len(names):12d}")
    return "\n".join([*lines, "", f"results in {where}"])


def summary(
    acc: np.ndarray,
    capacity: dict[str, dict[str, float]],
    free: dict[str, dict[str, list[float]]],
    where: Path,
) -> str:
    """The results of a run as text: accuracies "T T", metrics, capacity used, accuracies `free` of
    the task (results.read_task_free), and the workdir."""
    lines = [""]
    if len(acc) <= MAX_COLUMNS:
        lines += ["accuracy (%) on each task (column) after learning each task (row)"]
        for t, row in enumerate(acc):
            cells = "".join(f"{100 * a:6.1f}" for a in row[: t + 1])
            lines += [f"{t + 1:4d}{cells}"]
    else:
        lines += [f"accuracy (%) on each of the {len(acc)} tasks after the last"]
        lines += [
            "    " + "".join(f"{100 * a:6.1f}" for a in acc[-1][i : i + MAX_COLUMNS])
            for i in range(0, len(acc), MAX_COLUMNS)
        ]
    lines += [
        "",
        f"average accuracy  {metrics.average_accuracy(acc):8.2%}",
        f"backward transfer {metrics.backward_transfer(acc):+8.2%}",
        f"forgetting        {metrics.forgetting(acc):8.2%}",
    ]
    lines += ["", *without_the_task(free)] if free and len(acc) > 1 else []
    lines += ["", *used(capacity)] if capacity else []
    return "\n".join([*lines, "", f"results in {where}"])


def without_the_task(free: dict[str, dict[str, list[float]]]) -> list[str]:
    """What a run achieves without being told the task, as lines: a column for each method."""
    names = {
        "task_found": "task found",
        "class_incremental": "class of all",
        "domain_incremental": "class within",
    }
    head = f"{'without the task':18}" + "".join(f"{method:>9}" for method in free)
    return [head] + [
        f"  {name:16}" + "".join(f"{metrics.mean(np.array(of[k])):9.2%}" for of in free.values())
        for k, name in names.items()
    ]


def used(capacity: dict[str, dict[str, float]]) -> list[str]:
    """metrics.capacity as lines of text: a column for each gate, or a line if there are many."""
    kinds = ("units", "weights")
    if len(capacity) <= MAX_COLUMNS // 2:
        width = max(8, 2 + max(map(len, capacity)))
        head = "capacity used" + "".join(f"{gate:>{width}}" for gate in capacity)
        rows = {k: "".join(f"{of[k]:{width}.1%}" for of in capacity.values()) for k in kinds}
        return [head, *(f"  {kind:11}{shares}" for kind, shares in rows.items())]
    width = max(13, 2 + max(map(len, capacity)))
    return [
        f"{'capacity used':{width}}" + "".join(f"{kind:>9}" for kind in kinds),
        *(
            f"  {gate:{width - 2}}" + "".join(f"{of[kind]:9.1%}" for kind in kinds)
            for gate, of in capacity.items()
        ),
    ]
