"""An epoch whose loss is not a number: what is kept, and what a person is told."""

import jax
import numpy as np

from hatjax.experiment import checkpoint
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.experiment.log import Log
from hatjax.training import replicas, train
from hatjax.types import Approach, Data, State, Tree, Turn
from hatjax.workdir import files


def handle(
    inputs: Inputs,
    approach: Approach,
    progress: Progress,
    log: Log,
    failed: list[int],
    scores: dict[str, np.ndarray],
) -> None:
    """After an epoch in which the losses of the runs `failed` were not numbers.

    The program has taken them back to before it, with a lower rate if config.on_nan says so. If
    not, they end here, and where they stood is saved in their workdirs.
    """
    t, epoch = progress.task, progress.epoch
    for r in failed:
        config, (batches, _) = inputs.configs[r], inputs.batches(r, t)
        bad = np.flatnonzero(~np.isfinite(scores["losses"][r][:batches]))
        step = f"step {bad[0] + 1} of {batches}" if len(bad) else "its validation"
        name = f"{inputs.names[r]}: " if inputs.names[r] else ""
        what = f"{name}the loss is not a finite number in task {t + 1}, epoch {epoch + 1}, {step}"
        if config.on_nan == "lower":
            lower = scores["lr"][r] / config.lr_factor
            log.say([f"warning: {what}: back to before this epoch, with the rate {lower:.2g}"])
            continue
        blamed = max(bad[0] - 1, 0) if len(bad) else batches - 1
        progress.diverged[r] = (
            f"{what}; the largest gradient of step {blamed + 1} is that of "
            f"{largest_gradient(inputs, approach, progress, r, blamed)}: try a smaller --config.lr "
            f"(now {config.lr}) or --config.approach.clip (now {config.approach.clip}), or go on "
            "from before this epoch with --config.on_nan=lower"
        )
        place = inputs.places[r]
        checkpoint.save(inputs, progress, only=r)
        if replicas.writes():
            with files.writing(place):
                files.write_text(place / "diverged", progress.diverged[r])


def largest_gradient(
    inputs: Inputs, approach: Approach, progress: Progress, r: int, step: int
) -> str:
    """The parameter of run r with the largest gradient at a step of the epoch to come, its size."""
    config = inputs.configs[r]

    def sizes(state: State, data: Data, turn: Turn, hyper: train.Hyper) -> Tree:
        return train.gradient_sizes(config, approach, state, data, turn, hyper, step)

    saved = inputs.one(r, inputs.placement.fetch(checkpoint.packed(progress.state)))
    state = checkpoint.unpacked(saved, progress.state)
    found = jax.jit(sizes)(state, *inputs.alone(r, progress.task), train.hyperparameters(config))
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(found))
    path, size = max(leaves, key=lambda leaf: leaf[1])
    return f"{jax.tree_util.keystr(path, simple=True, separator='/')} ({size:.2g})"
