"""What happens when a loss is not finite: after the epoch, and at the end of its task."""

import jax
import numpy as np

from hatjax.data.stream import Stream
from hatjax.experiment import causes, checkpoint
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.experiment.log import Log
from hatjax.training import replicas, streaming, train
from hatjax.types import Approach, Data, State, Tree, Turn
from hatjax.workdir import files, results

LARGEST = 1e18  # of a gradient: the sum of squares overflows a little later, and so does its norm


def handle(
    inputs: Inputs,
    approach: Approach,
    progress: Progress,
    log: Log,
    failed: list[int],
    scores: dict[str, np.ndarray],
) -> None:
    """Handle an epoch in which the losses of the runs `failed` were not finite.

    The compiled program has reset them to before the epoch. With config.on_nan "lower" they go on
    with a lower learning rate; otherwise they end, with a checkpoint in their workdirs.
    """
    t, epoch = progress.task, progress.epoch
    for r in failed:
        config, batches = inputs.configs[r], inputs.batches(r, t)
        bad = np.flatnonzero(~np.isfinite(scores["losses"][r][:batches]))
        step = f"step {bad[0] + 1} of {batches}" if len(bad) else "its validation"
        name = f"{inputs.names[r]}: " if inputs.names[r] else ""
        what = f"{name}the loss is not a finite number in task {t + 1}, epoch {epoch + 1}, {step}"
        if config.on_nan == "lower":
            lower = scores["lr"][r] / config.lr_factor
            log.say([f"warning: {what}: back to before this epoch, with the rate {lower:.2g}"])
            continue
        blamed = max(bad[0] - 1, 0) if len(bad) else batches - 1
        helps = causes.of_divergence(config)
        if helps.startswith("try"):
            helps += ", or resume from before this epoch with --config.on_nan=lower"
        why = (
            f"{what}; the largest gradient of step {blamed + 1} is that of "
            f"{largest_gradient(inputs, approach, progress, r, blamed)}: {helps}"
        )
        give_up(inputs, progress, r, why)


def give_up(inputs: Inputs, progress: Progress, r: int, why: str) -> None:
    """End run r, with a checkpoint of its own and the reason in its workdir."""
    progress.diverged[r] = why
    checkpoint.save(inputs, progress, only=r)
    if replicas.writes():
        with files.writing(place := inputs.places[r]):
            files.write_text(place / "diverged", why)


def give_up_without_an_epoch(inputs: Inputs, progress: Progress, trained: set[int]) -> None:
    """End the active runs in which every epoch of the task that ends has failed.

    `trained` are the runs that have had an epoch with a finite loss since this start.
    """
    t, doubtful = progress.task, sorted(set(progress.active()) - trained)

    def without() -> list[int]:
        """Those without an epoch before this start, too: it would have a line."""
        lines = {r: results.read_rows(inputs.places[r] / "metrics.jsonl") for r in doubtful}
        return [r for r, rows in lines.items() if all(row["task"] != t for row in rows)]

    for r in replicas.told_by_first(without) if doubtful else ():
        name = f"{inputs.names[r]}: " if inputs.names[r] else ""
        why = (
            f"{name}every epoch of task {t + 1} ended with a loss that is not a finite number, "
            f"with all learning rates tried, from {inputs.configs[r].lr:g} down"
        )
        give_up(inputs, progress, r, f"{why}: {causes.of_divergence(inputs.configs[r])}")


def largest_gradient(
    inputs: Inputs, approach: Approach, progress: Progress, r: int, step: int
) -> str:
    """The parameter with the largest gradient, and its size, at a step of run r's next epoch."""
    config = inputs.configs[r]

    def sizes(state: State, data: Data, turn: Turn, hyper: train.Hyper) -> Tree:
        return train.gradient_sizes(config, approach, state, data, turn, hyper, step)

    saved = inputs.of_run(r, inputs.placement.fetch(checkpoint.packed(progress.state)))
    state = checkpoint.unpacked(saved, progress.state)
    data, turn = inputs.single_run(r, progress.task)
    hyper = train.hyperparameters(config)
    if isinstance(data, Stream):
        found = streaming.gradient_sizes(config, approach, state, data, turn, hyper, step)
    else:
        found = jax.jit(sizes)(state, data, turn, hyper)
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(found))
    path, size = max(leaves, key=lambda leaf: leaf[1])
    huge = ", too large for 32-bit numbers when squared" if LARGEST < size < np.inf else ""
    return f"{jax.tree_util.keystr(path, simple=True, separator='/')} ({size:.2g}{huge})"
