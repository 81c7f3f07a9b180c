"""A whole experiment, top to bottom: learn the tasks in turn, evaluate, keep the results."""

import contextlib
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.analysis import metrics, models
from hatjax.data import feed, tasks
from hatjax.errors import Diverged, Interrupted
from hatjax.experiment import checkpoints, chunks, compilation, failure, progress, stop, tensorboard
from hatjax.experiment import course as courses
from hatjax.experiment.course import Course
from hatjax.experiment.group import Group
from hatjax.experiment.log import Log
from hatjax.training import replicas, train
from hatjax.training.products import multiply_adds, products
from hatjax.types import Approach, Network, Task
from hatjax.workdir import files, results


def prepare(config: ConfigDict, sequence: list[Task] | None = None) -> tuple[list[Task], Network]:
    """The tasks and the network of a configuration; InputError for whatever cannot be used.

    `sequence` is the tasks where the configuration does not tell them (tasks.of_arrays).
    """
    configs.check(config)
    sequence = sequence or tasks.make(config)
    feed.fits(config, sequence)
    feed.check_augment(config, sequence)
    image = sequence[0].train.x.shape[1:]
    network = networks.make(config, image, tasks.by_row(sequence, "classes"))
    networks.check_memory(network, times=3)  # parameters, gradients and the best parameters
    if network.units and config.network.name not in networks.OURS:  # the tests probe ours
        networks.probe(network, image)
    return sequence, network


def describe(config: ConfigDict) -> str:
    """What a run would do: configuration, tasks and parameter counts."""
    sequence, network = prepare(config)
    approach = approaches.make(config, network)
    lines = [
        configs.to_json(config),
        f"{len(sequence)} tasks of {sequence[0].train.x.shape[1:]} images",
    ]
    lines += [
        f"  {t + 1:3d}  {task.name:24} {task.classes:3d} classes  {len(task.train.y):6d} train  "
        f"{len(task.valid.y):6d} valid  {len(task.test.y):6d} test"
        for t, task in enumerate(sequence)
    ]
    counts = networks.count(network)
    lines += ["", f"{sum(counts.values()):,} parameters"]
    lines += [f"  {part:6} {n:12,}" for part, n in counts.items()]
    if network.axes:  # networks with another structure have loops, whose rounds are not known
        lines += ["", f"{flops(config, approach, sequence):,} FLOPs an image, forward"]
    return "\n".join([*lines, "", f"device: {jax.devices()[0].device_kind} x {jax.device_count()}"])


def flops(config: ConfigDict, approach: Approach, sequence: list[Task]) -> int:
    """The floating-point operations of the products that classify one image."""
    params, memory = jax.eval_shape(approach.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *sequence[0].train.x.shape[1:]), np.float32)
    hyper = train.hyperparameters(config)

    def predict(params, memory, x):
        return approach.predict(params, memory, x, 0, hyper)

    return 2 * sum(map(multiply_adds, products(predict, params, memory, x)))


def run(
    config: ConfigDict,
    where: Path,
    overwrite: bool = False,
    board: bool = False,
    stopping: stop.Stopping | None = None,
) -> np.ndarray:
    """Train on all tasks and keep the results in the workdir `where`; returns the accuracies "T T".

    A run that was cut off there goes on, one that has finished stays as it is. `board` writes
    TensorBoard's event files, too; `stopping` is what stop.requested gives. Raises InputError
    before anything is written if something cannot be used; Diverged when the loss is no longer a
    number, Unwritable when results cannot be written, Interrupted when it was told to stop: then
    what is saved stays.
    """
    (acc,) = run_all({where: config}, overwrite, board=board, stopping=stopping)
    print(recall(where))
    return acc


def run_all(
    runs: dict[Path, ConfigDict],
    overwrite: bool = False,
    at_once: int = 0,
    sequence: list[Task] | None = None,
    quiet: bool = False,
    board: bool = False,
    stopping: stop.Stopping | None = None,
) -> list[np.ndarray]:
    """The runs of plans.replicas, each in its workdir, `at_once` or as many as the memory holds.

    What is not finished there goes on where it was last saved. Returns the accuracies "T T" of
    each. `sequence` as in `prepare`, for a single run; `quiet` prints no progress; `board` and
    `stopping` as in `run`. Raises as `run`; Diverged only when all the others have finished.
    """
    stopping = stopping or stop.Stopping()
    if board:
        tensorboard.check()
    compilation.use_cache()
    config = next(iter(runs.values()))
    sequence, network = prepare(config, sequence)
    approach = approaches.make(config, network)
    accs: dict[Path, np.ndarray] = {}
    lost: list[str] = []
    with contextlib.ExitStack() as locks:
        done = replicas.by_first(lambda: open_all(runs, overwrite, locks)) or []
        there = replicas.agreed([where in done for where in runs])
        left = [where for where, finished in zip(runs, there, strict=True) if not finished]
        for where in runs.keys() - left:
            accs[where] = results.read_accuracy(where) if replicas.writes() else np.empty(0)
        for chunk in chunks.chunks(left, config, approach, sequence, at_once) if left else ():
            if replicas.anywhere(stopping()):
                raise Interrupted("stopped between two runs")
            own = {where: runs[where] for where in chunk.places}
            seeds = {c.seed: c for c in own.values()}
            group = Group(
                own,
                {s: sequence if s == config.seed else prepare(c)[0] for s, c in seeds.items()},
                approach,
            )
            with chunks.advice(config, approach, sequence, len(own)), stopping.training():
                course = together(group, chunk, approach, quiet, board, stopping)
            accs |= dict(zip(chunk.places, course.acc, strict=True))
            lost += course.lost.values()
    if lost:
        raise Diverged("; ".join(lost))
    return [accs[where] for where in runs]


def open_all(
    runs: dict[Path, ConfigDict], overwrite: bool, locks: contextlib.ExitStack
) -> list[Path]:
    """Lock the workdirs and make them ready; those of runs that have finished in the meantime.

    Raises InputError, before any is written to, if one cannot be used.
    """
    for where, config in runs.items():
        files.check(where, config, overwrite)
    for where in runs:
        locks.enter_context(files.locked(where))
    done = [w for w, config in runs.items() if not overwrite and files.finished(w, config)]
    for where in runs.keys() - done:
        files.prepare(where, runs[where], overwrite)
    return done


def together(
    group: Group,
    chunk: chunks.Chunk,
    approach: Approach,
    quiet: bool,
    board: bool,
    stopping: stop.Stopping,
) -> Course:
    """Train the runs of a group to the end, from where they stand; returns where that is.

    Raises Interrupted and Unwritable.
    """
    program = replicas.compile(group.config, approach, group.placement.padded)
    notes = chunk.notes
    if chunk.at:
        course, more = courses.resume(group, approach, chunk.at)
        notes = [*notes, f"going on after {course.at}", *more]
    else:
        course = courses.begin(group, program)
    for r in course.going() if replicas.writes() else ():
        with files.writing(group.places[r]):
            results.write_tasks(group.places[r], group.tasks[r], group.fingerprints(r))
    with Log(group, course, quiet, board) as log:
        log.say(notes)
        if chunk.at and not course.at.epoch:  # what it was about to write when it was cut off
            publish(group, course)
        while course.at.tasks < group.total and course.going():
            began, t = time.monotonic(), course.at.tasks
            epochs = learn(group, program, approach, course, log, stopping)
            if not course.going():
                break
            evaluate(group, program, course)
            courses.save(group, course, course.going())
            publish(group, course)
            learned = group.placement.fetch(course.tree)
            log.task(approach, course, learned, epochs, time.monotonic() - began)
            if t + 1 < group.total:
                halt(stopping, course)
    done = [group.places[r] for r in course.going()] if replicas.writes() else []
    for where in done:
        with files.writing(where):
            files.flush(where)
            files.write_text(where / "done", "")
            files.flush(where)
    for where in done:  # only now, lest some run be finished without the others' last position
        with files.writing(where):
            checkpoints.remove(where)
    return course


def learn(
    group: Group,
    program: train.Program,
    approach: Approach,
    course: Course,
    log: Log,
    stopping: stop.Stopping,
) -> int:
    """Train the next task to its end; the number of its epochs."""
    t, config, fetch = course.at.tasks, group.config, group.placement.fetch
    now, data, valid = group.turn(t), group.data(t, "train"), group.data(t, "valid")
    if course.at.epoch == 0:
        course.tree = program.begin(*course.tree, now, group.key(t + 1), group.hyper)
    going = set(course.going()) - set(np.flatnonzero(fetch(course.tree.schedule.done)))
    clock = checkpoints.Clock(config.checkpoint.epochs, config.checkpoint.minutes)
    while approach.trained and going and course.at.epoch < config.epochs:
        course.tree, scores = program.epoch(course.tree, data, valid, now, group.hyper)
        scores, rows = fetch(scores), {}
        failed = [r for r in sorted(going) if scores["failed"][r]]
        for r in sorted(going.difference(failed)):
            rows[r] = row(group, approach, r, course.at, {k: v[r] for k, v in scores.items()})
        if failed:
            failure.handle(group, approach, course, log, failed, scores)
        log.epoch(rows)
        going -= course.lost.keys() | set(np.flatnonzero(scores["done"]))
        course.at = course.at._replace(epoch=course.at.epoch + 1)
        if going and course.at.epoch < config.epochs:
            if any(replicas.agreed([clock.due(course.at.epoch)])):
                courses.save(group, course, course.going())
                clock.reset()
            halt(stopping, course, group)
    epochs = course.at.epoch
    if course.going():
        course.tree = program.end(course.tree, data, now, group.hyper)
        course.at = checkpoints.Position(t + 1, 0)
    return epochs


def finished(where: Path, config: ConfigDict) -> bool:
    """Whether `where` holds the finished run of `config`; then it needs no checkpoints any more.

    Raises InputError if it has some, and another process is just beginning anew there.
    """
    there = files.finished(where, config)
    if there and replicas.writes() and (where / checkpoints.FOLDER).exists():
        with files.locked(where):
            if there := files.finished(where, config):
                checkpoints.remove(where)
    return there


def evaluate(group: Group, program: train.Program, course: Course) -> None:
    """Test the last task and all before it: a row of the accuracies and losses."""
    t = course.at.tasks - 1
    for u in range(t + 1):
        scores = program.evaluate(
            *course.tree, group.data(u, "test"), group.turn(u), group.hyper
        )
        scores = group.placement.fetch(scores)
        course.acc[:, t, u] = scores["accuracy"][: group.count]
        course.loss[:, t, u] = scores["loss"][: group.count]


def publish(group: Group, course: Course) -> None:
    """Put the results so far into the workdirs, from the checkpoints between two tasks."""
    for r in course.going() if replicas.writes() else ():
        where = group.places[r]
        with files.writing(where):
            model = checkpoints.place(where, course.at) / "state"
            results.save_copy(where, course.acc[r], course.loss[r], model)


def halt(stopping: stop.Stopping, course: Course, unsaved: Group | None = None) -> None:
    """Raise Interrupted if a process was told to stop, once the group `unsaved` is saved."""
    if replicas.anywhere(stopping()):
        if unsaved:
            courses.save(unsaved, course, course.going())
        raise Interrupted(f"stopped after {course.at}")


def row(
    group: Group, approach: Approach, r: int, at: checkpoints.Position, scores: dict
) -> dict:
    """The line of metrics.jsonl of run r for the epoch after `at`; `scores` as program.epoch."""
    config, (batches, n) = group.settings[r], group.batches(r, at.tasks)
    losses = scores["losses"][:batches]
    line = {"task": at.tasks, "epoch": at.epoch, "train_loss": float(losses.mean())}
    place = train.progress(config, np.array([0, batches - 1]), batches, n)
    for name, ends in approach.annealed(place, train.hyperparameters(config)).items():
        line |= {f"{name}_first": float(ends[0]), f"{name}_last": float(ends[1])}
    aside = ("losses", "failed", "done")
    return line | {k: float(v) for k, v in scores.items() if k not in aside}


def recall(where: Path) -> str:
    """The summary of a finished run, from its workdir."""
    model, acc = models.load(where), results.read_accuracy(where)
    capacity = metrics.capacity(model.approach, model.network, model.params, model.memory)
    return progress.summary(acc, capacity, where)
