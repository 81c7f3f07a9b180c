"""A whole experiment, top to bottom: learn the tasks in turn, evaluate, keep the results."""

import contextlib
import math
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import (
    approaches,
    feed,
    keys,
    metrics,
    networks,
    progress,
    replicas,
    results,
    tasks,
    tensorboard,
    train,
    transforms,
)
from hatjax import config as configs
from hatjax.data import cache
from hatjax.errors import Diverged, InputError
from hatjax.types import Approach, Data, Network, Task, Turn


def prepare(config: ConfigDict, sequence: list[Task] | None = None) -> tuple[list[Task], Network]:
    """The tasks and the network of a configuration; InputError for whatever cannot be used.

    `sequence` is the tasks where the configuration does not tell them (tasks.of_arrays).
    """
    configs.check(config)
    sequence = sequence or tasks.make(config)
    feed.fits(config, sequence)
    image = sequence[0].train.x.shape[1:]
    network = networks.make(config, image, tasks.by_row(sequence, "classes"))
    networks.fits(network, times=3)  # parameters, gradients and the best parameters
    return sequence, network


def describe(config: ConfigDict) -> str:
    """What a run would do: configuration, tasks and parameter counts."""
    sequence, network = prepare(config)
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
    return "\n".join([*lines, "", f"device: {jax.devices()[0].device_kind} x {jax.device_count()}"])


def run(
    config: ConfigDict, where: Path, overwrite: bool = False, board: bool = False
) -> np.ndarray:
    """Train on all tasks and keep the results in the workdir `where`; returns the accuracies "T T".

    `board` writes TensorBoard's event files, too. Raises InputError before anything is written if
    something cannot be used, and Diverged when the loss is no longer a number; the finished tasks'
    results stay.
    """
    (acc,) = run_all({where: config}, overwrite, board=board)
    model = results.load(where)
    print(progress.summary(acc, metrics.capacity(model.network, model.params, model.memory), where))
    return acc


def run_all(
    runs: dict[Path, ConfigDict],
    overwrite: bool = False,
    at_once: int = 0,
    sequence: list[Task] | None = None,
    quiet: bool = False,
    board: bool = False,
) -> list[np.ndarray]:
    """The runs of plans.replicas, each in its workdir, `at_once` or as many as the memory holds.

    Returns the accuracies "T T" of each. `sequence` as in `prepare`, for a single run; `quiet`
    prints no progress; `board` as in `run`. Raises as `run`; Diverged only when all the others have
    finished.
    """
    if board:
        tensorboard.check()
    use_compilation_cache()
    config = next(iter(runs.values()))
    sequence, network = prepare(config, sequence)
    approach = approaches.make(config, network)
    open_all(runs, overwrite)
    most = at_once or len(runs)
    if len(runs) > 1 and not at_once:
        (most,) = replicas.agreed([min(most, replicas.fit(config, approach, sequence))])
    if len(runs) > most and replicas.writes():
        print(f"{len(runs)} runs, {most} at once")
    places = list(runs)
    accs: list[np.ndarray] = []
    lost: list[str] = []
    for first in range(0, len(places), most):
        chunk = {where: runs[where] for where in places[first : first + most]}
        seeds = {c.seed: c for c in chunk.values()}
        sequences = {
            seed: sequence if seed == config.seed else prepare(c)[0] for seed, c in seeds.items()
        }
        for where, c in chunk.items() if replicas.writes() else ():
            results.write_tasks(where, sequences[c.seed])
        some, diverged = together(chunk, network, approach, sequences, quiet, board)
        accs, lost = accs + some, lost + diverged
    if lost:
        raise Diverged("; ".join(lost))
    return accs


def open_all(runs: dict[Path, ConfigDict], overwrite: bool) -> None:
    """Make the workdirs ready, in the process that writes; all of them raise what it raises."""
    problem = None
    try:
        for where, c in runs.items() if replicas.writes() else ():
            results.open_workdir(where, c, overwrite)
    except InputError as error:
        problem = error
    (refused,) = replicas.agreed([int(problem is not None)])
    if refused:
        raise problem or InputError("the first process cannot use the workdir: see its message")


def together(
    runs: dict[Path, ConfigDict],
    network: Network,
    approach: Approach,
    sequences: dict[int, list[Task]],
    quiet: bool = False,
    board: bool = False,
) -> tuple[list[np.ndarray], list[str]]:
    """Runs in one program: their accuracies "T T", and what became of those that diverged."""
    places, settings, count = list(runs), list(runs.values()), len(runs)
    config, seeds = settings[0], list(dict.fromkeys(c.seed for c in settings))
    place = replicas.Placement(count)
    padded = [*settings, *[settings[-1]] * (place.padded - count)]  # to equal shares of the devices
    version = [seeds.index(c.seed) for c in padded]
    tasks_of = [sequences[c.seed] for c in padded]

    def length(split: str, batch: int, union: bool = False) -> int:
        return max(feed.capacity(sequences[seed], split, batch, union) for seed in seeds)

    def put(t: int, split: str, union: bool = False) -> Data:
        each = [feed.pad(sequences[seed], t, split, lengths[split], union) for seed in seeds]
        return place.data(feed.stack(each, version))

    def turn(t: int) -> Turn:
        rows = np.array([sequence[t].row for sequence in tasks_of], np.int32)
        return Turn(place.put(rows), place.put(np.int32(t), shared=True))

    def kept() -> set[int]:
        """The replicas whose results this process keeps."""
        return set(range(count)) - lost.keys() if replicas.writes() else set()

    lengths = {
        "train": length("train", config.batch, approach.union),
        "valid": length("valid", config.eval_batch, approach.union),
        "test": length("test", config.eval_batch),
    }
    program = replicas.compile(config, approach, place.padded)
    hyper = place.put(jax.tree.map(lambda *v: np.stack(v), *map(train.hyperparameters, padded)))
    own_seed = place.put(np.array([c.seed for c in padded], np.uint32))
    key = jax.jit(jax.vmap(lambda seed, i: jax.random.fold_in(keys.key(seed), i), (0, None)))
    params, memory = program.init(key(own_seed, 0))
    total = len(tasks_of[0])
    acc, loss = np.zeros((2, count, total, total))
    lost: dict[int, str] = {}

    names = [task.name for task in tasks_of[0]]
    quiet = quiet or not replicas.writes()
    with (
        progress.Reporter(names, config.epochs, count, quiet) as report,
        contextlib.ExitStack() as stack,
    ):
        boards: dict[int, tensorboard.Board] = {}
        for r in kept() if board else ():
            boards[r] = tensorboard.Board(places[r])
            stack.callback(boards[r].close)
        for t in range(total):
            began, now = time.monotonic(), turn(t)
            data, valid = put(t, "train", approach.union), put(t, "valid", approach.union)
            sizes = [feed.count(tasks, t, "train", approach.union) for tasks in tasks_of]
            state = program.begin(params, memory, now, key(own_seed, t + 1), hyper)
            epoch, going = 0, set(range(count)) - lost.keys()
            while approach.trained and going and epoch < config.epochs:
                state, scores = program.epoch(state, data, valid, now, hyper)
                scores, rows = place.fetch(scores), []
                for r in sorted(going):
                    mine = {k: v[r] for k, v in scores.items()}
                    try:
                        rows.append(epoch_row(settings[r], t, epoch, sizes[r], mine))
                    except Diverged as error:
                        lost[r] = str(error) if count == 1 else f"{places[r].name}: {error}"
                        continue
                    if replicas.writes():
                        results.append(places[r], rows[-1])
                    if r in boards:
                        boards[r].epoch(rows[-1])
                going -= lost.keys() | set(np.flatnonzero(scores["done"]))
                if rows:
                    report.epoch(rows)
                epoch += 1
            if len(lost) == count:
                break
            params, memory = program.end(state, data, now, hyper)
            for u in range(t + 1):
                scores = program.evaluate(params, memory, put(u, "test"), turn(u), hyper)
                scores = place.fetch(scores)
                acc[:, t, u], loss[:, t, u] = scores["accuracy"][:count], scores["loss"][:count]
            learned = place.fetch((params, memory))
            for r in kept():
                own = jax.tree.map(lambda x, r=r: x[r], learned)
                results.save(places[r], acc[r], loss[r], *own)
                if r in boards:
                    sequence, past = tasks_of[r], own[1].get("past", {})
                    s_max = settings[r].approach.get("s_max")
                    gates = network.gates(own[0], sequence[t].row, s_max) if past else {}
                    boards[r].task(acc[r, t, : t + 1], [x.name for x in sequence], gates, past)
            left = sorted(set(range(count)) - lost.keys())
            report.task(t, epoch, time.monotonic() - began, acc[left, t, : t + 1])
            if t + 1 < total:
                scarce = [metrics.scarce(learned[1].get("past", {}), r) for r in left]
                report.scarce(t + 1, [layers for layers in scarce if layers])
    for r in kept():
        results.write_text(places[r] / "done", "")
    return list(acc), list(lost.values())


def recall(where: Path) -> str:
    """The summary of a finished run, from its workdir."""
    model, acc = results.load(where), np.load(where / "accuracy.npy")
    capacity = metrics.capacity(model.network, model.params, model.memory)
    return progress.summary(acc, capacity, where)


def epoch_row(config: ConfigDict, t: int, epoch: int, n: int, scores: dict) -> dict:
    """An epoch's line of metrics.jsonl; Diverged if one of its losses is not a number."""
    batches = math.ceil(n / config.batch)
    losses = np.asarray(scores.pop("losses"))[:batches]
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad) or not np.isfinite(scores["valid_loss"]):
        step = f"step {bad[0] + 1} of {batches}" if len(bad) else "its validation"
        raise Diverged(
            f"the loss is not a finite number in task {t + 1}, epoch {epoch + 1}, {step}: try a "
            f"smaller --config.lr (now {config.lr}) or --config.approach.clip "
            f"(now {config.approach.clip})"
        )
    row = {"task": t, "epoch": epoch, "train_loss": float(losses.mean())}
    if "s_max" in config.approach:
        place = train.progress(config, np.array([0, batches - 1]), batches, n)
        first, last = transforms.anneal(place, config.approach.s_max)
        row |= {"s_first": float(first), "s_last": float(last)}
    row |= {k: float(v) for k, v in scores.items() if k != "done"}
    return row


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder: the next start compiles nothing."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
