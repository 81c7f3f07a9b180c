"""An epoch whose loss is not a number: what is kept, and what a person is told."""

import jax
import numpy as np

from hatjax.experiment import checkpoints
from hatjax.experiment.course import Course, save
from hatjax.experiment.group import Group
from hatjax.experiment.log import Log
from hatjax.training import replicas, train
from hatjax.types import Approach, Data, State, Tree, Turn
from hatjax.workdir import files


def handle(
    group: Group,
    approach: Approach,
    course: Course,
    log: Log,
    failed: list[int],
    scores: dict[str, np.ndarray],
) -> None:
    """After an epoch in which the losses of the runs `failed` were not numbers.

    The program has taken them back to before it, with a lower rate if config.on_nan says so; else
    they end here, and what they were is saved.
    """
    t, epoch = course.at
    for r in failed:
        config, (batches, _) = group.settings[r], group.batches(r, t)
        bad = np.flatnonzero(~np.isfinite(scores["losses"][r][:batches]))
        step = f"step {bad[0] + 1} of {batches}" if len(bad) else "its validation"
        name = "" if group.count == 1 else f"{group.places[r].name}: "
        what = f"{name}the loss is not a finite number in task {t + 1}, epoch {epoch + 1}, {step}"
        if config.on_nan == "lower":
            lower = scores["lr"][r] / config.lr_factor
            log.say([f"warning: {what}: back to before this epoch, with the rate {lower:.2g}"])
            continue
        blamed = max(bad[0] - 1, 0) if len(bad) else batches - 1
        course.lost[r] = (
            f"{what}; the largest gradient of step {blamed + 1} is that of "
            f"{largest_gradient(group, approach, course, r, blamed)}: try a smaller --config.lr "
            f"(now {config.lr}) or --config.approach.clip (now {config.approach.clip}), or go on "
            "from before this epoch with --config.on_nan=lower"
        )
    if lost := [r for r in failed if r in course.lost]:
        if epoch:  # else that is where the task before ended, or nothing
            save(group, course, lost)
        for r in lost if replicas.writes() else ():
            with files.writing(group.places[r]):
                files.write_text(group.places[r] / "diverged", course.lost[r])


def largest_gradient(group: Group, approach: Approach, course: Course, r: int, step: int) -> str:
    """The parameter of run r with the largest gradient at a step of the epoch to come, its size."""
    config = group.settings[r]

    def sizes(state: State, data: Data, turn: Turn, hyper: train.Hyper) -> Tree:
        return train.gradient_sizes(config, approach, state, data, turn, hyper, step)

    tree = group.one(r, group.placement.fetch(checkpoints.packed(course.tree)))
    state = checkpoints.unpacked(tree, course.tree)
    found = jax.jit(sizes)(state, *group.alone(r, course.at.tasks), train.hyperparameters(config))
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(found))
    path, size = max(leaves, key=lambda leaf: leaf[1])
    return f"{jax.tree_util.keystr(path, simple=True, separator='/')} ({size:.2g})"
