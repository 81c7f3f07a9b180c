"""A whole experiment, top to bottom: learn the tasks in turn, evaluate, keep the results."""

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
    """The tasks and the network of a configuration; InputError for whatever cannot be used.

    `sequence` is the tasks where they are given as arrays (tasks.of_arrays).
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


def run(
    config: ConfigDict,
    where: Path,
    overwrite: bool = False,
    board: bool = False,
    stopping: stop.Stopping | None = None,
) -> np.ndarray:
    """Train on all tasks and keep the results in the workdir `where`; returns the accuracies "T T".

    As `run_sweep`, of a single run, whose results are printed.
    """
    (acc,) = run_sweep(where, {"": config}, overwrite, board=board, stopping=stopping)
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
) -> list[np.ndarray]:
    """Train `runs` by name, as plans.replicas gives them, each in a folder of its own in `folder`.

    Returns the accuracies "T T" of each. A run that was cut off there goes on, and one that has
    finished stays as it is, unless `overwrite` begins anew. One program trains `at_once` runs, or
    as many as the memory holds. `sequence` is as in `prepare`, for a single run; `quiet` prints no
    progress; `board` writes TensorBoard's event files, too; `stopping` is what stop.requested
    gives. Raises InputError, before anything is written, for what cannot be used; Unwritable when
    results cannot be written; Interrupted when it was told to stop; and, when all other runs have
    finished, Diverged if a loss was no longer a number. What was saved stays.
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
        left = replicas.told_by_first(lambda: open_all(folder, runs, overwrite, locks))
        most = at_once or len(left)
        if len(left) > 1 and not at_once:
            (most,) = replicas.agreed([min(most, replicas.fit(config, approach, sequence))])
        if len(left) > most and replicas.writes():
            print(f"{len(left)} runs, {most} at once")
        programs = replicas.told_by_first(lambda: planned(folder, runs, left, most, at_once, locks))
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
                progress = loop.train_all(inputs, approach, quiet, board, stopping)
            diverged += progress.diverged.values()
    if diverged:
        raise Diverged("; ".join(dict.fromkeys(diverged)))
    return accuracies(folder, runs)


def finished(folder: Path, runs: dict[str, ConfigDict]) -> bool:
    """Whether all `runs` have finished in their folders in `folder`."""
    return all(files.finished(folder / name, config) for name, config in runs.items())


def accuracies(folder: Path, runs: Iterable[str]) -> list[np.ndarray]:
    """The accuracies "T T" of finished runs; empty in processes that do not write."""
    if not replicas.writes():
        return [np.empty(0) for _ in runs]
    return [results.read_accuracy(folder / name) for name in runs]


def open_all(
    folder: Path, runs: dict[str, ConfigDict], overwrite: bool, locks: contextlib.ExitStack
) -> list[str]:
    """Lock the workdirs of `runs` and make them ready; the names of those that are not finished.

    Raises InputError, before any is written to, if one cannot be used.
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
            sweep.forget(folder, left.keys())
    for name, config in left.items():
        files.prepare(folder / name, config, overwrite)
    return [*left]


def planned(
    folder: Path,
    runs: dict[str, ConfigDict],
    left: list[str],
    most: int,
    at_once: int,
    locks: contextlib.ExitStack,
) -> list[dict[str, str]]:
    """The runs `left` by program, each {name: configuration in JSON}.

    Runs that began in one of these programs go on with it, even if nobody asks for them: they are
    locked, too.
    """
    with files.preparing(folder):
        programs = sweep.plan(folder, left, most, at_once)
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
