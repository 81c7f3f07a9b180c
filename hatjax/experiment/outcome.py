"""Whether a task has been learned at all."""

from collections.abc import Mapping

import numpy as np

from hatjax.experiment import causes
from hatjax.experiment.inputs import Inputs
from hatjax.types import Array


def closed(gates: Mapping[str, Array]) -> list[str]:
    """The layers in which a task has (almost) no open unit; `gates` are its own, {gate: "units"}.

    Open units count by their gates, 0..1: less than one, or less than one in 200, is almost none.
    """
    open_units = {layer: np.sum(np.asarray(a)) for layer, a in gates.items()}
    return [layer for layer, n in open_units.items() if n < max(1, 0.005 * np.size(gates[layer]))]


def guessing(y: np.ndarray, classes: int) -> float:
    """The largest accuracy on the labels y "n" that guessing explains, 0..1.

    Always naming the most frequent class gives its share; guesses at random give 1 / classes, and
    in one case of six a standard deviation more. 1 where n is too small to tell.
    """
    if not len(y):
        return 1.0
    usual = 1 / classes
    share = np.bincount(y.astype(int)).max() / len(y)
    return min(1.0, max(share, usual + np.sqrt(usual * (1 - usual) / len(y))))


def warnings(
    inputs: Inputs, t: int, gates: Mapping[int, Mapping[str, Array]], acc: np.ndarray
) -> list[str]:
    """What to tell of task t where it closed a layer, or its test accuracy is that of chance.

    `gates` are the task's in each run to tell about, and acc "R" the accuracies on it. A warning is
    printed below the task's line, and names the likely cause for the first run it is about.
    """
    found: dict[str, list[int]] = {}
    for r, own in gates.items():
        task = inputs.tasks[r][t]
        chance = guessing(task.test.y, task.classes)
        if layers := closed(own):
            what = f"leaves (almost) no open unit in {', '.join(layers)}"
        elif chance < 1 and acc[r] <= chance + 1e-6:
            what = f"has an accuracy no better than chance (up to {chance:.1%} here)"
        else:
            continue
        found.setdefault(what, []).append(r)
    return [
        f"  warning: task {t + 1}/{inputs.total} {what}{_of(inputs, runs)}: "
        f"{causes.of_no_learning(inputs.configs[runs[0]])}"
        for what, runs in found.items()
    ]


def _of(inputs: Inputs, runs: list[int]) -> str:
    """Which of several runs a warning is about."""
    if inputs.count == 1:
        return ""
    names = ", ".join(inputs.names[r] for r in runs[:3]) + ", ..." * (len(runs) > 3)
    return f" in {len(runs)} of {inputs.count} runs ({names})"
