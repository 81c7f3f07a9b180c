"""A whole experiment: learn the tasks in turn, evaluate, save the results."""

import contextlib
import functools
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.analysis import metrics, models
from hatjax.analysis.models import Model
from hatjax.config import grid
from hatjax.data import feed, tasks
from hatjax.errors import Diverged, InputError, Interrupted
from hatjax.experiment import compilation, display, extending, loop, stop, sweep, tensorboard
from hatjax.experiment.inputs import Inputs
from hatjax.experiment.memory import advice
from hatjax.training import device_memory, replicas, streaming
from hatjax.types import Approach, Network, Task
from hatjax.workdir import files, results


def prepare(config: ConfigDict, sequence: list[Task] | None = None) -> tuple[list[Task], Network]:
    """The tasks and the network of a configuration. Raises InputError if it cannot be used.

    `sequence` has the tasks if they were given as arrays (tasks.of_arrays). The network is that of
    a single run; `approach_of` has that of several in one program.
    """
    configs.check(config)
    if sequence is None:
        sequence = extending.sequence(config) if config.extends.run else tasks.make(config)
    feed.fits(config, sequence, device_memory.streams(config, sequence, union=False))
    feed.check_augment(config, sequence[sum(config.extends.tasks) :])
    image = sequence[0].train.x.shape[1:]
    network = networks.make(config, image, tasks.by_row(sequence, "classes"))
    networks.check_memory(network, times=3)  # parameters, gradients and the best parameters
    if config.network.name not in networks.OURS:  # tests probe ours
        networks.check_training(network, image)
        if network.units:
            networks.probe(network, image)
    return sequence, network


def approach_of(config: ConfigDict, sequence: list[Task], replicas: int) -> Approach:
    """The approach of a configuration, as so many runs train it together in one program."""
    image = sequence[0].train.x.shape[1:]
    classes = tasks.by_row(sequence, "classes")
    return approaches.make(config, networks.make(config, image, classes, replicas))


def run(
    config: ConfigDict,
    where: Path,
    overwrite: bool = False,
    board: bool = False,
    stopping: stop.Stopping | None = None,
    verbose: bool = False,
) -> np.ndarray:
    """Train on all tasks, save the results in the workdir `where`, return the accuracies "T T".

    Like `run_sweep` for a single run, but prints a summary of the results.
    """
    (acc,) = run_sweep(
        where, {"": config}, overwrite, board=board, stopping=stopping, verbose=verbose
    )
    print(recall(where))
    return acc


def run_sweep(
    folder: Path,
    runs: dict[str, ConfigDict],
    overwrite: bool = False,
    at_once: int = 0,
    sequence: list[Task] | None = None,
    quiet: bool = False,
    board: bool = False,
    stopping: stop.Stopping | None = None,
    verbose: bool = False,
    model: Model | None = None,
) -> list[np.ndarray]:
    """Train a sweep: the configurations `runs` by name (plans.replicas), in folders of `folder`.

    Returns the accuracies "T T" of each run. Interrupted runs resume and finished ones are kept,
    unless `overwrite` starts all over. One program trains runs that are alike (grid.alike), at most
    `at_once` of them (0: as many as fit into memory). `sequence` is as in `prepare`, for a single
    run; so is `model`, which it extends, if that is not in a workdir. `quiet` prints no progress,
    `verbose` every epoch even where no terminal shows a live line; `board` also writes TensorBoard
    event files; `stopping` comes from stop.requested.

    Raises InputError for unusable input, before anything is written; Unwritable if results cannot
    be written; Interrupted if told to stop; and Diverged if a loss was not finite, after all other
    runs have finished. What was saved stays.
    """
    stopping = stopping or stop.Stopping()
    if board:
        tensorboard.check()
    runs = extending.complete(runs)
    done = replicas.by_first(lambda: finished(folder, runs))
    if not overwrite and all(replicas.agreed([bool(done)])):
        replicas.by_first(lambda: sweep.tidy(folder, list(runs)))
        return accuracies(folder, runs)
    compilation.use_cache()
    groups = [list(group) for group in grid.alike(runs)]
    first = runs[groups[0][0]]
    prepared = ready(first, sequence)
    for names in groups[1:]:  # what cannot be used is refused before anything is written
        ready_like(runs[names[0]], first, prepared)
    diverged: list[str] = []
    with contextlib.ExitStack() as locks:
        left = replicas.told_by_first(lambda: prepare_workdirs(folder, runs, overwrite, locks))
        for names in groups:
            some, config = [name for name in names if name in left], runs[names[0]]
            if not some:
                continue
            sequence, approach = ready_like(config, first, prepared)
            max_runs = most_at_once(len(some), at_once, config, approach, sequence)
            programs = replicas.told_by_first(
                functools.partial(plan_programs, folder, runs, some, max_runs, at_once, locks)
            )
            for program in programs:
                if replicas.anywhere(stopping()):
                    raise Interrupted("stopped between two runs")
                if len(groups) > 1 and not quiet and replicas.writes():
                    print(f"training {', '.join(program)}")
                together = {name: configs.from_json(c) for name, c in program.items()}
                seeds = {c.seed: c for c in together.values()}
                sequences = {
                    s: sequence if s == config.seed else prepare(c)[0] for s, c in seeds.items()
                }
                approach = approach_of(config, sequence, len(together))
                inputs = Inputs(folder, together, sequences, approach, model)
                with (
                    advice(config, approach, sequence, inputs.count),
                    stopping.training(),
                    jax.set_mesh(inputs.placement.mesh),
                ):
                    progress = loop.train_all(
                        inputs, approach, quiet, board, stopping, verbose
                    )
                diverged += progress.diverged.values()
    if diverged:
        raise Diverged("; ".join(dict.fromkeys(diverged)))
    return accuracies(folder, runs)


def ready(config: ConfigDict, sequence: list[Task] | None = None) -> tuple[list[Task], Approach]:
    """The tasks and the approach of a configuration; as `prepare`."""
    sequence, network = prepare(config, sequence)
    approach = approaches.make(config, network)
    streaming.check(config, approach, sequence)
    return sequence, approach


def ready_like(
    config: ConfigDict, first: ConfigDict, prepared: tuple[list[Task], Approach]
) -> tuple[list[Task], Approach]:
    """As `ready`, where the configuration `first` is already `prepared`: equal tasks are shared."""

    def data_of(config: ConfigDict) -> dict[str, object]:
        parts = ("seed", "fidelity", "data.", "tasks.", "extends.")
        return {k: v for k, v in configs.fields(config).items() if k.startswith(parts)}

    if config is first:
        return prepared
    return ready(config, prepared[0] if data_of(config) == data_of(first) else None)


def most_at_once(
    count: int, at_once: int, config: ConfigDict, approach: Approach, sequence: list[Task]
) -> int:
    """How many of `count` runs train in one program: `at_once`, or as many as fit into memory."""
    most = at_once or count
    if count > 1 and not at_once:
        (most,) = replicas.agreed([min(most, device_memory.fit(config, approach, sequence))])
    if count > most and replicas.writes():
        print(f"{count} runs, {most} at once")
    return most


def finished(folder: Path, runs: dict[str, ConfigDict]) -> bool:
    """Whether all `runs` have finished in their workdirs in `folder`."""
    return all(files.finished(folder / name, config) for name, config in runs.items())


def accuracies(folder: Path, runs: Iterable[str]) -> list[np.ndarray]:
    """The accuracies "T T" of finished runs; empty in processes that do not write."""
    if not replicas.writes():
        return [np.empty(0) for _ in runs]
    return [results.read_accuracy(folder / name) for name in runs]


def prepare_workdirs(
    folder: Path, runs: dict[str, ConfigDict], overwrite: bool, locks: contextlib.ExitStack
) -> list[str]:
    """Lock and prepare the workdirs of `runs`; returns the names of those that are not finished.

    Raises InputError, before anything is written, if one cannot be used.
    """
    if "" not in runs and (folder / "config.json").is_file():
        raise InputError(
            f"workdir {folder} holds a single run, not a sweep: choose another with --workdir=DIR"
        )
    for name, config in runs.items():
        files.check(folder / name, config, overwrite)
    for name in runs:
        locks.enter_context(files.locked(folder / name))
    left = {
        name: c for name, c in runs.items() if overwrite or not files.finished(folder / name, c)
    }
    if overwrite:
        with files.preparing(folder):
            sweep.discard(folder, left.keys())
    for name, config in left.items():
        files.prepare(folder / name, config, overwrite)
    return [*left]


def plan_programs(
    folder: Path,
    runs: dict[str, ConfigDict],
    left: list[str],
    max_runs: int,
    at_once: int,
    locks: contextlib.ExitStack,
) -> list[dict[str, str]]:
    """The programs that train the runs `left`, each as {name: configuration as JSON}.

    Runs that started in one of these programs resume with it, even if they are not in `runs`; their
    workdirs are locked too.
    """
    with files.preparing(folder):
        programs = sweep.plan(folder, left, max_runs, at_once)
    found = []
    for names in programs:
        others = [name for name in names if name not in runs]
        configs_of = runs | (sweep.saved_configs(folder, names) if others else {})
        for name in others:
            files.check(folder / name, configs_of[name])
        for name in others:
            locks.enter_context(files.locked(folder / name))
        found.append({name: configs.to_json(configs_of[name]) for name in names})
    return found


def recall(where: Path) -> str:
    """The summary of a finished run, from its workdir."""
    model, acc = models.load(where), results.read_accuracy(where)
    capacity = metrics.capacity(model.approach, model.network, model.params, model.memory)
    return display.summary(acc, capacity, results.read_task_free(where), where)
