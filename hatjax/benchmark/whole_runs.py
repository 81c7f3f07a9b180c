"""A run at its real size for a bounded time, and what it reached."""

import tempfile
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from hatjax import data, plans
from hatjax.analysis import metrics
from hatjax.errors import Interrupted
from hatjax.experiment import run, stop
from hatjax.workdir import results


class Deadline(stop.Stopping):
    """Asks a run to stop after some minutes; it is asked after every epoch, and keeps the times."""

    def __init__(self, minutes: float):
        super().__init__()
        self.times = [time.monotonic()]
        self.end = self.times[0] + 60 * minutes

    def __call__(self) -> bool:
        self.times.append(time.monotonic())
        return super().__call__() or self.times[-1] > self.end


def reached(config: ConfigDict, minutes: float) -> dict:
    """Train the seeds of `config` in one program for at most so many minutes; what came of it.

    The accuracy is the average over the tasks learned, the mean over the seeds. An epoch is of all
    seeds together: the median, with what lies between two epochs. Without the image sets nothing is
    trained.
    """
    root = data.root(config.data.root)
    if absent := [name for name in config.data.sets if not data.available(name, root)]:
        return {"not measured": f"no image set {', '.join(absent)} in the data root"}
    deadline, state = Deadline(minutes), "finished"
    with tempfile.TemporaryDirectory() as folder:
        runs = plans.replicas(config)
        try:
            run.run_sweep(
                Path(folder), runs, at_once=config.at_once, quiet=True, stopping=deadline
            )
        except Interrupted:
            state = "stopped"
        where = [Path(folder) / name for name in runs]
        seconds = np.diff(deadline.times)
        found = {
            "state": f"{state} after {deadline.times[-1] - deadline.times[0]:.0f} s",
            "seeds": len(runs),
            "epochs": max(map(results.epochs, where)),
        }
        if len(seconds) > 1:
            found["s an epoch"] = float(np.median(seconds[1:]))
        return found | accuracies(where)


def accuracies(where: list[Path]) -> dict:
    """How many tasks the runs have learned, and their average accuracy and forgetting."""
    if not all((place / "accuracy.npy").exists() for place in where):
        return {"tasks": "none learned"}
    matrices = [results.read_accuracy(place) for place in where]
    t = min(int(acc.any(axis=1).sum()) for acc in matrices)
    learned = [acc[:t, :t] for acc in matrices]
    mean, deviation = metrics.over_seeds([metrics.average_accuracy(acc) for acc in learned])
    forgotten = np.mean([metrics.forgetting(acc) for acc in learned])
    return {
        "tasks": f"{t} of {len(matrices[0])}",
        "accuracy %": 100 * mean,
        "its deviation": 100 * deviation,
        "forgetting %": 100 * float(forgotten),
    }
