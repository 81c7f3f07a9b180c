"""Logging while runs train: metrics.jsonl, TensorBoard and the screen."""

import collections
import contextlib
from collections.abc import Sequence

from hatjax.analysis import metrics
from hatjax.experiment import display, outcome, tensorboard
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.training import replicas, train
from hatjax.types import Approach, Tree
from hatjax.workdir import files, results


class Log(contextlib.ExitStack):
    """A context that is open while the runs train; the flags are as in run.run_sweep."""

    def __init__(
        self, inputs: Inputs, progress: Progress, quiet: bool, board: bool, verbose: bool = False
    ):
        super().__init__()
        self.places, self.inputs, self.writes = inputs.places, inputs, replicas.writes()
        counts: dict[int, int] = collections.Counter()  # epochs of each task
        for r in progress.active()[:1] if self.writes else ():
            rows = results.read_rows(self.places[r] / "metrics.jsonl")
            counts = collections.Counter(row["task"] for row in rows)
        runs = range(inputs.count)
        self.report = display.Reporter(
            [task.name for task in inputs.tasks[0]],
            [max(inputs.batches(r, t) for r in runs) for t in range(inputs.total)],
            inputs.config.epochs,
            inputs.count,
            quiet or not self.writes,
            verbose,
            [counts[t] for t in range(progress.task)],
        )
        self.boards: dict[int, tensorboard.Board] = {}
        for r in progress.active() if board and self.writes else ():
            with files.writing(where := self.places[r]):
                self.boards[r] = tensorboard.Board(where, results.epochs(where))
            self.callback(self.boards[r].close)
        self.enter_context(self.report)

    def say(self, notes: Sequence[str]) -> None:
        """Print notes."""
        for note in notes:
            self.report.console.print(note)

    def epoch(self, rows: dict[int, dict]) -> None:
        """Log an epoch; `rows` maps runs to lines of metrics.jsonl. Raises Unwritable."""
        for r, row in rows.items() if self.writes else ():
            with files.writing(self.places[r]):
                results.append(self.places[r], row)
                if r in self.boards:
                    self.boards[r].epoch(row)
        if rows:
            self.report.epoch(list(rows.values()))

    def task(
        self, approach: Approach, progress: Progress, params: Tree, memory: Tree, seconds: float
    ) -> None:
        """Log a finished task; `params` and `memory` are those at its end, "R ..." on the host."""
        t, active = progress.task, progress.active()
        acc = progress.acc[:, t, : t + 1]
        gates = {}
        for r in active if self.writes else ():
            own, remembered = self.inputs.of_run(r, params), self.inputs.of_run(r, memory)
            tasks, hyper = self.inputs.tasks[r], train.hyperparameters(self.inputs.configs[r])
            gates[r] = approach.gates(own, remembered, tasks[t].row, hyper)
            if r in self.boards:
                names, past = [task.name for task in tasks], approach.past(remembered)
                with files.writing(self.places[r]):
                    self.boards[r].task(acc[r], names, gates[r], past)
        self.report.task(t, progress.epoch, seconds, acc[active])
        if approach.trained:
            self.say(outcome.warnings(self.inputs, t, gates, acc[:, t]))
        if t + 1 < self.inputs.total:
            past = approach.past(memory)
            scarce = [metrics.scarce(past, r) for r in active]
            self.report.warn_scarce(t + 1, [layers for layers in scarce if layers])
