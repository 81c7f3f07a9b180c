"""A whole experiment: learn the tasks in turn, evaluate, save the results."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.analysis import metrics, models
from hatjax.data import feed, tasks
from hatjax.errors import Diverged, Interrupted
from hatjax.experiment import compilation, display, loop, stop, sweep, tensorboard
from hatjax.experiment.inputs import Inputs
from hatjax.experiment.memory import advice
from hatjax.training import replicas
from hatjax.types import Network, Task
from hatjax.workdir import files, results


def prepare(config: ConfigDict, sequence: list[Task] | None = None) -> tuple[list[Task], Network]:
    """The tasks and the network of a configuration. Raises InputError if it cannot be used.

    `sequence` has the tasks if they were given as arrays (tasks.of_arrays).
    """
    configs.check(config)
    sequence = sequence or tasks.make(config)
    feed.fits(config, sequence)
    feed.check_augment(config, sequence)
    image = sequence[0].train.x.shape[1:]
    network = networks.make(config, image, tasks.by_row(sequence, "classes"))
    networks.check_memory(network, times=3)  # parameters, gradients and the best parameters
    if network.units and config.network.name not in networks.OURS:  # tests probe ours
        networks.probe(network, image)
    return sequence, network


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
) -> list[np.ndarray]:
    """Train a sweep: the configurations `runs` by name (plans.replicas), in folders of `folder`.

    Returns the accuracies "T T" of each run. Interrupted runs resume and finished ones are kept,
    unless `overwrite` starts all over. One program trains `at_once` runs (0: as many as fit into
    memory). `sequence` is as in `prepare`, for a single run; `quiet` prints no progress, `verbose`
    every epoch even where no terminal shows a live line; `board` also writes TensorBoard event
    files; `stopping` comes from stop.requested.

    Raises InputError for unusable input, before anything is written; Unwritable if results cannot
    be written; Interrupted if told to stop; and Diverged if a loss was not finite, after all other
    runs have finished. What was saved stays.
    """
    stopping = stopping or stop.Stopping()
    if board:
        tensorboard.check()
    done = replicas.by_first(lambda: finished(folder, runs))
    if not overwrite and all(replicas.agreed([bool(done)])):
        replicas.by_first(lambda: sweep.tidy(folder, list(runs)))
        return accuracies(folder, runs)
    compilation.use_cache()
    config = next(iter(runs.values()))
    sequence, network = prepare(config, sequence)
    approach = approaches.make(config, network)
    diverged: list[str] = []
    with contextlib.ExitStack() as locks:
        left = replicas.told_by_first(lambda: prepare_workdirs(folder, runs, overwrite, locks))
        max_runs = at_once or len(left)
        if len(left) > 1 and not at_once:
            (max_runs,) = replicas.agreed([min(max_runs, replicas.fit(config, approach, sequence))])
        if len(left) > max_runs and replicas.writes():
            print(f"{len(left)} runs, {max_runs} at once")
        programs = replicas.told_by_first(
            lambda: plan_programs(folder, runs, left, max_runs, at_once, locks)
        )
        for program in programs:
            if replicas.anywhere(stopping()):
                raise Interrupted("stopped between two runs")
            together = {name: configs.from_json(c) for name, c in program.items()}
            seeds = {c.seed: c for c in together.values()}
            sequences = {
                s: sequence if s == config.seed else prepare(c)[0] for s, c in seeds.items()
            }
            inputs = Inputs(folder, together, sequences, approach)
            with advice(config, approach, sequence, inputs.count), stopping.training():
                progress = loop.train_all(inputs, approach, quiet, board, stopping, verbose)
            diverged += progress.diverged.values()
    if diverged:
        raise Diverged("; ".join(dict.fromkeys(diverged)))
    return accuracies(folder, runs)


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
    return display.summary(acc, capacity, where)
