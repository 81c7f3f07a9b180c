"""The training loop of one program, from the first task to the last."""

import time

import numpy as np

from hatjax.errors import Interrupted
from hatjax.experiment import checkpoint, failure, resume, stop, sweep, task_free
from hatjax.experiment.checkpoint import Progress
from hatjax.experiment.inputs import Inputs
from hatjax.experiment.log import Log
from hatjax.training import device_memory, replicas, streaming, train
from hatjax.types import Approach, Tree
from hatjax.workdir import files, results


def train_all(
    inputs: Inputs,
    approach: Approach,
    quiet: bool,
    board: bool,
    stopping: stop.Stopping,
    verbose: bool = False,
) -> Progress:
    """Train the runs of a program on all tasks, resuming from a checkpoint if there is one.

    The flags are as in run.run_sweep. Returns the final progress. Raises Interrupted, Unwritable.
    """
    if inputs.streamed:
        program = streaming.compile(inputs.config, approach, inputs.placement)
    else:
        program = replicas.compile(inputs.config, approach, inputs.placement.padded)
    progress, notes = resume.begin_or_resume(inputs, approach, program)
    if inputs.streamed:
        notes = [device_memory.streamed(inputs.config, inputs.tasks[0], approach.union), *notes]
    with Log(inputs, progress, quiet, board, verbose) as log:
        log.say(notes)
        while progress.task < inputs.total and progress.active():
            began, t = time.monotonic(), progress.task
            learned = train_task(inputs, approach, program, progress, log, stopping)
            if not progress.active():
                break
            evaluate(inputs, program, progress, learned)
            params, memory = inputs.placement.fetch(learned)
            task_free.calibrate(inputs, approach, progress, params, memory)
            publish(inputs, progress, params, memory)
            if t + 1 == inputs.total:
                task_free.evaluate(inputs, approach, progress, params, memory)
            log.task(approach, progress, params, memory, time.monotonic() - began)
            progress.task, progress.epoch = t + 1, 0
            if progress.task < inputs.total:
                turn, key = inputs.turn(t + 1), inputs.key(t + 2)
                progress.state = program.begin(*learned, turn, key, inputs.hyper)
                checkpoint.save(inputs, progress)
                halt(stopping, inputs, progress, saved=True)
    finish(inputs, progress)
    return progress


def train_task(
    inputs: Inputs,
    approach: Approach,
    program: train.Program,
    progress: Progress,
    log: Log,
    stopping: stop.Stopping,
) -> tuple[Tree, Tree]:
    """Train the current task to its end; returns the parameters and memory after it."""
    t, config, fetch = progress.task, inputs.config, inputs.placement.fetch
    turn, data, valid = inputs.turn(t), inputs.data(t, "train"), inputs.data(t, "valid")
    active = set(progress.active()) - set(np.flatnonzero(fetch(progress.state.schedule.done)))
    trained: set[int] = set()  # the runs with an epoch whose loss is finite
    clock = checkpoint.Clock(config.checkpoint.epochs, config.checkpoint.minutes)
    while approach.trained and active and progress.epoch < config.epochs:
        progress.state, scores = program.epoch(progress.state, data, valid, turn, inputs.hyper)
        scores, rows = fetch(scores), {}
        failed = [r for r in sorted(active) if scores["failed"][r]]
        for r in sorted(active.difference(failed)):
            rows[r] = row(inputs, r, progress, {k: v[r] for k, v in scores.items()})
        if failed:
            failure.handle(inputs, approach, progress, log, failed, scores)
        trained |= rows.keys()
        log.epoch(rows)
        active -= progress.diverged.keys() | set(np.flatnonzero(scores["done"]))
        progress.epoch += 1
        if active and progress.epoch < config.epochs:
            if any(replicas.agreed([clock.due(progress.epoch)])):
                checkpoint.save(inputs, progress)
                clock.reset()
            halt(stopping, inputs, progress)
    if approach.trained:
        failure.give_up_without_an_epoch(inputs, progress, trained)
    return program.end(progress.state, data, turn, inputs.hyper)


def evaluate(
    inputs: Inputs, program: train.Program, progress: Progress, learned: tuple[Tree, Tree]
) -> None:
    """Test the learned task and all before it: fills row t of the accuracies and losses.

    What a run has forgotten on purpose, before it was extended, stays NaN.
    """
    t = progress.task
    for u in range(t + 1):
        scores = program.evaluate(*learned, inputs.data(u, "test"), inputs.turn(u), inputs.hyper)
        scores = inputs.placement.fetch(scores)
        for table, name in ((progress.acc, "accuracy"), (progress.loss, "loss")):
            gone = np.isnan(table[:, u, u])
            table[:, t, u] = np.where(gone, np.nan, scores[name][: inputs.count])


def publish(inputs: Inputs, progress: Progress, params: Tree, memory: Tree) -> None:
    """Write results after a task to the workdirs; `params`, `memory` are "R ..." on the host."""
    for r in progress.active() if replicas.writes() else ():
        place = inputs.places[r]
        with files.writing(place):
            results.save(
                place,
                progress.acc[r],
                progress.loss[r],
                inputs.of_run(r, params),
                inputs.of_run(r, memory),
            )


def halt(
    stopping: stop.Stopping,
    inputs: Inputs,
    progress: Progress,
    saved: bool = False,
) -> None:
    """Raise Interrupted if any process was told to stop; first save, unless already `saved`."""
    if replicas.anywhere(stopping()):
        if not saved:
            checkpoint.save(inputs, progress)
        raise Interrupted(f"stopped after {progress}")


def finish(inputs: Inputs, progress: Progress) -> None:
    """Mark runs that have learned all tasks as done, and then remove their checkpoints.

    A diverged run keeps its own checkpoint, from before the failed epoch.
    """
    if not replicas.writes():
        return
    done = [inputs.places[r] for r in progress.active()]
    for place in done:
        with files.writing(place):
            files.flush(place)
            files.write_text(place / "done", "")
            files.flush(place)
    if done or inputs.count > 1:
        with files.writing(inputs.folder):
            sweep.remove(checkpoint.folder_of(inputs.folder, inputs.names))


def row(inputs: Inputs, r: int, progress: Progress, scores: dict) -> dict:
    """Run r's line of metrics.jsonl for an epoch; `scores` are those of program.epoch."""
    losses = scores["losses"][: inputs.batches(r, progress.task)]
    line = {"task": progress.task, "epoch": progress.epoch, "train_loss": float(losses.mean())}
    omitted = ("losses", "failed", "done")
    return line | {k: float(v) for k, v in scores.items() if k not in omitted}
