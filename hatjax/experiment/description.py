"""The description of a run that --dry_run prints."""

import textwrap
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import approaches, networks
from hatjax import config as configs
from hatjax.analysis import models, remembered
from hatjax.config import grid
from hatjax.experiment import extending
from hatjax.experiment.run import prepare, ready
from hatjax.training import device_memory, streaming, train
from hatjax.training.flops import multiply_adds, products
from hatjax.types import Approach, Task
from hatjax.workdir import files


def describe(config: ConfigDict, runs: dict[str, ConfigDict], where: Path) -> str:
    """The configuration, tasks, parameter counts, FLOPs and device of a run.

    Of a sweep those of its first run, and the list of its `runs` (plans.replicas) in `where`. Of a
    run that extends another also what the tasks so far use.
    Raises InputError if one cannot be used.
    """
    first = next(iter(runs.values()))
    sequence, network = prepare(first)
    approach = approaches.make(first, network)
    streaming.check(first, approach, sequence)
    lines = [
        configs.to_json(config),
        f"{len(sequence)} tasks of {sequence[0].train.x.shape[1:]} images",
    ]
    named: tuple = ()
    for t, task in enumerate(sequence):
        counts = "  ".join(f"{len(getattr(task, k).y):6d} {k}" for k in ("train", "valid", "test"))
        lines.append(f"  {t + 1:3d}  {task.name:24} {task.classes:3d} classes  {counts}")
        if task.about.labels not in ((), named):  # permuted tasks share them
            lines += class_names(task)
        named = task.about.labels
    if device_memory.streams(first, sequence, approach.union):
        lines.append(device_memory.streamed(first, sequence, approach.union))
    parts = networks.count(network)
    lines += ["", f"{sum(parts.values()):,} parameters"]
    lines += [f"  {part:6} {n:12,}" for part, n in parts.items()]
    if kept := remembered.memory(approach):
        lines += ["", f"{kept:,} bytes that {first.approach.name} remembers between tasks"]
    if network.axes:  # a progressive network and PathNet have none, and loops of unknown length
        lines += ["", f"{flops(first, approach, sequence):,} FLOPs an image, forward"]
    if of := first.extends.run:
        lines += ["", *extending.told(models.load(of), of, len(runs))]
    if "" not in runs:
        lines += ["", *listed(runs, where)]
    return "\n".join([*lines, "", f"device: {jax.devices()[0].device_kind} x {jax.device_count()}"])


def class_names(task: Task) -> list[str]:
    """The names of a task's classes in the order of their labels 0, 1, ..., as lines."""
    return textwrap.wrap(
        "classes 0, 1, ...: " + ", ".join(map(str, task.about.labels)),
        width=100,
        initial_indent=" " * 7,
        subsequent_indent=" " * 9,
    )


def listed(runs: dict[str, ConfigDict], where: Path) -> list[str]:
    """The runs of a sweep, whether they have finished, and in how many programs they train."""
    programs = grid.alike(runs)
    for program in programs[1:]:  # raises for what cannot be used
        ready(next(iter(program.values())))
    several = f", in {len(programs)} programs or more" if len(programs) > 1 else ""
    return [f"{len(runs)} runs in {where}{several}; the numbers above are those of the first"] + [
        f"  {'finished' if files.finished(where / name, c) else 'to do':9} {name}"
        for name, c in runs.items()
    ]


def flops(config: ConfigDict, approach: Approach, sequence: list[Task]) -> int:
    """The floating-point operations of the matrix products that classify one image."""
    params, memory = jax.eval_shape(approach.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, *sequence[0].train.x.shape[1:]), np.float32)
    hyper = train.hyperparameters(config)

    def predict(params, memory, x):
        return approach.predict(params, memory, x, 0, hyper)

    return 2 * sum(map(multiply_adds, products(predict, params, memory, x)))
