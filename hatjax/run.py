"""A whole experiment, top to bottom: learn the tasks in turn, evaluate, keep the results."""

import math
import time
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, feed, metrics, networks, progress, results, tasks, train, transforms
from hatjax import config as configs
from hatjax.data import cache
from hatjax.errors import Diverged
from hatjax.types import Network, Task


def prepare(config: ConfigDict) -> tuple[list[Task], Network]:
    """The tasks and the network of a configuration; InputError for whatever cannot be used."""
    configs.check(config)
    sequence = tasks.make(config)
    image = sequence[0].train.x.shape[1:]
    return sequence, networks.make(config, image, tasks.by_row(sequence, "classes"))


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


def run(config: ConfigDict, where: Path, overwrite: bool = False) -> np.ndarray:
    """Train on all tasks and keep the results in the workdir `where`; returns the accuracies "T T".

    Raises InputError before anything is written if something cannot be used, and Diverged when the
    loss is no longer a number; the finished tasks' results stay.
    """
    use_compilation_cache()
    sequence, network = prepare(config)
    approach = approaches.make(config, network)
    results.open_workdir(where, config, overwrite)
    results.write_tasks(where, sequence)

    program, hyper = train.compile(config, approach), train.hyperparameters(config)
    key = jax.random.key(config.seed)
    params, memory = program.init(jax.random.fold_in(key, 0))
    lengths = {
        "train": feed.capacity(sequence, "train", config.batch, approach.union),
        "valid": feed.capacity(sequence, "valid", config.eval_batch, approach.union),
        "test": feed.capacity(sequence, "test", config.eval_batch),
    }
    acc, loss = np.zeros((2, len(sequence), len(sequence)))

    with progress.Reporter(sequence, config.epochs) as report:
        for t in range(len(sequence)):
            began, turn = time.monotonic(), feed.turn(sequence, t)
            data = feed.put(sequence, t, "train", lengths["train"], approach.union)
            valid = feed.put(sequence, t, "valid", lengths["valid"], approach.union)
            state = program.begin(params, memory, turn, jax.random.fold_in(key, t + 1), hyper)
            epoch, done = 0, not approach.trained
            while not done:
                state, scores = program.epoch(state, data, valid, turn, hyper)
                row = epoch_row(config, t, epoch, int(data.n), scores)
                results.append(where, row)
                report.epoch(row)
                epoch += 1
                done = scores["done"] or epoch == config.epochs
            params, memory = program.end(state, data, turn, hyper)
            for u in range(t + 1):
                test = feed.put(sequence, u, "test", lengths["test"])
                scores = program.evaluate(params, memory, test, feed.turn(sequence, u), hyper)
                acc[t, u], loss[t, u] = scores["accuracy"], scores["loss"]
            results.save(where, acc, loss, params, memory)
            report.task(t, epoch, time.monotonic() - began, acc[t, : t + 1])

    results.write_text(where / "done", "")
    print(progress.summary(acc, metrics.capacity(network, params, memory), where))
    return acc


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
    jax.config.update("jax_compilation_cache_dir", str(cache() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
