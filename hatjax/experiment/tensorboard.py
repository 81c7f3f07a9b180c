"""TensorBoard event files of a run, in WORKDIR/tensorboard."""

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hatjax.errors import InputError
from hatjax.types import Array

# Fields of metrics.jsonl -> TensorBoard tags, which are grouped by the part before the slash.
TAGS = {
    "train_loss": "loss/train",
    "valid_loss": "loss/valid",
    "train_accuracy": "accuracy/train",
    "valid_accuracy": "accuracy/valid",
    "lr": "schedule/lr",
    "s_first": "schedule/s_first",
    "s_last": "schedule/s_last",
    "kept": "capacity/weights_kept_by_the_task",
}


def check() -> None:
    """Raise InputError if tensorboardX, an optional dependency, is not installed."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard needs tensorboardX, which is not installed: python -m pip install "
            "'hatjax[tensorboard]', or do without the flag"
        )


class Board:
    """Writes the events of one run; close it, or the last ones may be lost.

    The run has trained `epochs` before, over all tasks; events of later epochs, which an
    interrupted run left, are dropped.
    """

    def __init__(self, where: Path, epochs: int = 0):
        from tensorboardX import SummaryWriter  # an optional dependency

        folder = str(where / "tensorboard")
        self.writer = SummaryWriter(folder, purge_step=epochs + 1 if epochs else None)
        self.epochs = epochs

    def epoch(self, row: dict) -> None:
        """Write an epoch; `row` is its line of metrics.jsonl."""
        self.epochs += 1
        for name, value in row.items():
            tag = TAGS.get(name, name.replace("used_", "capacity/units_used_"))
            if name not in ("task", "epoch"):
                self.writer.add_scalar(tag, value, self.epochs)
        self.writer.add_scalar("schedule/task", row["task"] + 1, self.epochs)

    def task(
        self,
        acc: np.ndarray,
        names: Sequence[str],
        gates: dict[str, Array],
        past: dict[str, Array],
    ) -> None:
        """Write a task: accuracies "t+1" on the tasks so far, its gates, the cumulative gates."""
        t = len(acc)
        for name, a in zip(names, acc, strict=False):
            tag = re.sub(r"[^-/\w.]", "_", name)  # the writer would warn of each
            self.writer.add_scalar(f"test_accuracy/{tag}", a, t)
        self.writer.add_scalar("test_accuracy/average", acc.mean(), t)
        for title, values in (("gates", gates), ("gates_so_far", past)):
            for layer, a in values.items():
                self.writer.add_histogram(f"{title}/{layer}", np.asarray(a), t)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
