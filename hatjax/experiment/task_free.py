"""What a run would achieve without being told the task (hatjax.analysis.task_free).

After each task, the energy of at most HELD_OUT of its held-out examples is measured (energy.npy).
After the last one, at most TESTED test examples of each of the T tasks are classified as by every
task, in one program that is compiled once. Fewer are taken where these T^2 TESTED passes of one
example would be more than PASSES, but always FEWEST of a task. For ten tasks it costs at most ten
times as much as to test all of them once.
"""

import functools
import json
from collections.abc import Sequence

import jax
import numpy as np

from hatjax.analysis.blocks import in_blocks
from hatjax.analysis.task_free import (
    HELD_OUT,
    METHODS,
    PerTask,
    answers,
    block,
    calibration,
    energies,
    shares,
)
from hatjax.data import feed
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.training import replicas, train
from hatjax.types import Approach, Task, Tree
from hatjax.workdir import files, results

PASSES = 10**6  # T tasks with n examples each take n T^2
TESTED, FEWEST = 2000, 20  # examples of a task, at most and at least


def calibrate(
    inputs: Inputs, approach: Approach, progress: Progress, params: Tree, memory: Tree
) -> None:
    """Measure the energy of the task just learned, for `params`, `memory` "R ..." on the host."""
    if not approach.trained:
        return
    for r in progress.active() if replicas.writes() else ():
        task, of = inputs.tasks[r][progress.task], _of(inputs, approach, r, params, memory)
        own = jax.tree.map(lambda v: v[0], per_task([task], progress.energy[r, [progress.task]]))
        x, _ = some(inputs.tasks[r], progress.task, "valid", HELD_OUT)
        size = min(inputs.config.eval_batch, HELD_OUT)
        values = in_blocks(functools.partial(energies, *of, own), x, size, whole=True)
        progress.energy[r, progress.task] = calibration(values)
        with files.writing(inputs.places[r]):
            files.write_array(inputs.places[r] / "energy.npy", progress.energy[r])


def evaluate(
    inputs: Inputs, approach: Approach, progress: Progress, params: Tree, memory: Tree
) -> None:
    """Write task_free.json: how many test examples are right if the task has to be found."""
    if not approach.trained:
        return
    for r in progress.active() if replicas.writes() else ():
        tasks, of = inputs.tasks[r], _of(inputs, approach, r, params, memory)
        there = np.flatnonzero(~np.isnan(np.diag(progress.acc[r])))
        energy = progress.energy[r]
        every = per_task([tasks[t] for t in there], energy[there])
        function = functools.partial(answers, *of, every)
        size = block(inputs.config.eval_batch, len(there))
        most = min(TESTED, max(PASSES // len(there) ** 2, FEWEST))
        known = [m for m in METHODS if m != "energy" or np.isfinite(energy[there]).all()]
        found: dict[str, dict[str, list[float | None]]] = {
            m: {k: [None] * len(tasks) for k in results.READINGS} for m in known
        }
        for place, t in enumerate(there):
            x, y = some(tasks, int(t), "test", most)
            told = in_blocks(function, x, size, whole=True)
            for m in known:
                of_method = told[:, METHODS.index(m), :2]
                for k, v in shares(of_method, place, y).items():
                    found[m][k][t] = v
        with files.writing(inputs.places[r]):
            text = json.dumps(found, indent=1) + "\n"
            files.write_text(inputs.places[r] / results.FREE_OF_TASK, text)


def _of(inputs: Inputs, approach: Approach, r: int, params: Tree, memory: Tree) -> tuple:
    """The first arguments of `answers` and `energies` for run r."""
    hyper = train.hyperparameters(inputs.configs[r])
    return approach.predict, inputs.of_run(r, params), inputs.of_run(r, memory), hyper


def per_task(tasks: Sequence[Task], energy: np.ndarray) -> PerTask:
    """What the tasks have of their own; `energy` "T 2" is theirs."""
    rows, *rest = (np.stack([getattr(task, k) for task in tasks]) for k in ("row", "mean", "std"))
    return PerTask(rows, *(np.asarray(v, np.float32) for v in (*rest, energy)))


def some(tasks: Sequence[Task], t: int, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many examples of task t, spread evenly over all, as the network sees them; and
    their labels."""
    y = getattr(tasks[t], split).y
    places = np.linspace(0, len(y) - 1, min(most, len(y))).astype(int)
    return feed.images(tasks, t, split, places), y[places]
