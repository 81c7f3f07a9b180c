"""Where the course of a group's runs goes: metrics.jsonl, TensorBoard, a person's screen."""

import contextlib
from collections.abc import Sequence

from hatjax.analysis import metrics
from hatjax.experiment import progress, tensorboard
from hatjax.experiment.course import Course
from hatjax.experiment.group import Group
from hatjax.training import replicas, train
from hatjax.types import Approach, Tree
from hatjax.workdir import files, results


class Log(contextlib.ExitStack):
    """Open as long as the group learns; `board` and `quiet` as in run.run_all."""

    def __init__(self, group: Group, course: Course, quiet: bool, board: bool):
        super().__init__()
        self.group, self.writes = group, replicas.writes()
        at, epochs = course.at, group.config.epochs
        self.report = progress.Reporter(
            group.names, epochs, group.count, quiet or not self.writes, at.tasks * epochs + at.epoch
        )
        self.boards: dict[int, tensorboard.Board] = {}
        for r in course.going() if board and self.writes else ():
            with files.writing(where := group.places[r]):
                self.boards[r] = tensorboard.Board(where, results.epochs(where))
            self.callback(self.boards[r].close)
        self.enter_context(self.report)

    def say(self, notes: Sequence[str]) -> None:
        """Print lines that are not of an epoch."""
        for note in notes:
            self.report.console.print(note)

    def epoch(self, rows: dict[int, dict]) -> None:
        """After an epoch; `rows` are the lines of metrics.jsonl by run. Raises Unwritable."""
        for r, row in rows.items() if self.writes else ():
            with files.writing(self.group.places[r]):
                results.append(self.group.places[r], row)
                if r in self.boards:
                    self.boards[r].epoch(row)
        if rows:
            self.report.epoch(list(rows.values()))

    def task(self, approach: Approach, course: Course, learned: Tree, epochs: int, seconds: float):
        """After a task: what is `learned`, params and memory "R ..." on the host."""
        t, going = course.at.tasks - 1, course.going()
        acc = course.acc[:, t, : t + 1]
        for r in self.boards.keys() & set(going):
            (params, memory), tasks = self.group.one(r, learned), self.group.tasks[r]
            hyper = train.hyperparameters(self.group.settings[r])
            past = approach.past(memory)
            gates = approach.gates(params, memory, tasks[t].row, hyper)
            with files.writing(self.group.places[r]):
                self.boards[r].task(acc[r], [task.name for task in tasks], gates, past)
        self.report.task(t, epochs, seconds, acc[going])
        if t + 1 < self.group.total:
            past = approach.past(learned[1])
            scarce = [metrics.scarce(past, r) for r in going]
            self.report.scarce(t + 1, [layers for layers in scarce if layers])

