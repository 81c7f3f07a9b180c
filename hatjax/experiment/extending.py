"""Runs that go on from others: tasks are added to what a finished run has learned.

config.extends.run names the run before, whose workdir is only read. Its tasks come first: they keep
their rows and their numbers, their accuracies are copied, and they are tested after every new task,
on images that are read again as its configuration says. What the tasks before were is written into
the new workdir (results.write_earlier), which needs the old one until it is finished.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.analysis import metrics, models, which
from hatjax.analysis.models import Model
from hatjax.data import tasks
from hatjax.data.tasks import joining
from hatjax.errors import InputError
from hatjax.experiment import display
from hatjax.experiment.inputs import Inputs
from hatjax.training import growing
from hatjax.types import Approach, Task, Tree
from hatjax.workdir import files, results, versions

FRESH = 2**30  # + the number of earlier tasks: which key the new rows are drawn with (Inputs.key)
HERE = "model "  # what config.extends.run begins with, where the model is given, and no workdir


def complete(runs: Mapping[str, ConfigDict]) -> dict[str, ConfigDict]:
    """The configurations with config.extends filled in: of each run, the run that it extends.

    config.extends.run is a workdir, or a folder of runs of which the one with the same name is
    meant. InputError where it holds no finished run, or one of another approach or network.
    """
    return {name: _complete(name, config) for name, config in runs.items()}


def _complete(name: str, config: ConfigDict) -> ConfigDict:
    if not config.extends.run or config.extends.run.startswith(HERE):
        return config
    where = Path(os.path.abspath(config.extends.run))
    if not os.path.isfile(where / "config.json") and where.name != name:
        where /= name
    old = files.read_config(where)
    if not os.path.exists(where / "done"):
        raise InputError(
            f"the run in {where} has not learned all its tasks: let it finish, by the command that "
            "began it, before it is extended"
        )
    check(config, old, str(where))
    return extended(config, str(where), (*old.extends.tasks, added(where, old)))


def added(where: Path, old: ConfigDict) -> int:
    """How many tasks the run in `where` added to those of the run that it extends, if any."""
    return len(results.read_accuracy(where)) - sum(old.extends.tasks)


def extended(config: ConfigDict, run: str, count: tuple[int, ...]) -> ConfigDict:
    """A copy of the configuration, with these fields of config.extends."""
    config = ConfigDict(config.to_dict())
    config.extends = ConfigDict(dict(run=run, tasks=count))
    return config


def check(config: ConfigDict, old: ConfigDict, where: str) -> None:
    """Raise InputError if a run of `config` cannot go on from one of `old`: what it has learned is
    read with the same network and the same settings of the approach."""
    name = old.approach.name
    if config.approach.name != name:
        raise InputError(
            f"config.approach.name = {config.approach.name!r}: the run in {where} is of {name!r}; "
            f"{configs.chosen_by(name)}"
        )
    kept = configs.APPROACHES[name].kept
    for line in files.differences(old, config):
        path = line.removeprefix("config.").partition(":")[0]
        part, _, field = path.partition(".")
        if part in ("network", "fidelity", "precision") or (
            part == "approach" and (kept is None or field in kept)
        ):
            raise InputError(
                f"{line}: a run that goes on from {where} needs that run's; leave it as it was"
            )


def inherited(config: ConfigDict, given: Sequence[str], folder: str) -> ConfigDict:
    """The configuration with the network, the approach's settings and the fidelity of a run.

    That is the run in `folder`, or the first one below it. The fields `given` stay as they are, as
    paths; so do those of another approach (`check` tells of it).
    """
    found = [Path(folder), *sorted(p.parent for p in Path(folder).glob("*/config.json"))]
    old = files.read_config(next((p for p in found if (p / "config.json").is_file()), found[0]))
    config = ConfigDict(config.to_dict())
    if old.approach.name == config.approach.name:
        mine = configs.fields(config)
        for part in ("network", "approach", "fidelity", "precision"):
            config[part] = old[part]
        own = {k: mine[k] for k in given if k in mine and k.startswith(("network.", "approach."))}
        own |= {k: mine[k] for k in given if k in ("fidelity", "precision")}
        configs.choose(config, own)
        config.update_from_flattened_dict(own)
    config.extends = ConfigDict(dict(run=folder, tasks=()))
    return config


def earlier_configs(config: ConfigDict, model: Model | None = None) -> tuple[ConfigDict, ...]:
    """The configurations of the runs that a run of `config` extends, the first one first.

    `model` is what it extends, if that is not in a workdir. Raises InputError if a file of the run
    before is damaged or gone.
    """
    if not config.extends.run:
        return ()
    if model is not None:
        return (*model.earlier, model.config)
    where = Path(config.extends.run)
    old = files.read_config(where)
    try:
        return (*results.read_earlier(where), old)
    except ValueError as error:
        raise InputError(f"{error}: this run cannot be extended") from error


def sequence(config: ConfigDict) -> list[Task]:
    """All tasks of a run that extends another: first those of the runs before, made again from
    their image sets, then its own. Raises InputError as tasks.make and joining.check, and for image
    sets that have changed since."""
    where = Path(config.extends.run)
    model = models.load(where)
    earlier, new = tasks.of_runs(earlier_configs(config)), tasks.make(config)
    results.check_tasks(where, earlier)
    joining.check(earlier, new, forgotten(model))
    return joining.after(earlier, new)


def forgotten(model: Model) -> list[int]:
    """The tasks of a model that were forgotten on purpose, and not learned again."""
    return [t for t in range(len(model.names)) if which.is_forgotten(model, t)]


def digest(model: Model) -> str:
    """A text that tells a model from any other, for config.extends.run."""
    hashed = hashlib.sha256(repr(model.names).encode())
    for leaf in jax.tree.leaves((model.params, model.memory)):
        hashed.update(np.ascontiguousarray(leaf).data)
    return HERE + hashed.hexdigest()[:16]


def grown(inputs: Inputs, approach: Approach, fresh: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    """The parameters and memory "R ..." with which the runs of a program go on, on the host.

    `fresh` "R ..." are those of init. Raises InputError, naming approach and array, where they
    cannot grow, and if a run has not learned the tasks that it is taken for.
    """
    each = []
    for r, sequence in enumerate(inputs.tasks):
        model, before = before_of(inputs, r), sequence[: inputs.first]
        if [(t.name, t.row) for t in before] != [*zip(model.names, model.rows, strict=True)]:
            raise InputError(
                f"{inputs.configs[r].extends.run} has not the tasks of the other runs with its "
                "seed: extend it by itself"
            )
        classes = model.network.classes, tasks.by_row(sequence, "classes")
        own = inputs.of_run(r, fresh)
        try:
            each.append(growing.grow(approach, classes, (model.params, model.memory), own))
        except ValueError as error:
            raise InputError(
                f"the approach {model.config.approach.name!r} cannot learn more tasks than it "
                f"began with: {error}; learn all tasks in one run"
            ) from error
    return jax.tree.map(lambda *x: np.stack(x), *each)


def before_of(inputs: Inputs, r: int) -> Model:
    """The model from which run r goes on. Raises InputError as models.load."""
    config = inputs.configs[min(r, inputs.count - 1)]
    return inputs.model or models.load(config.extends.run)


def carry_over(inputs: Inputs, r: int, where: Path) -> None:
    """Begin the workdir of run r with the epochs and versions of the run that it extends."""
    if not inputs.first or inputs.model:
        return
    old = Path(inputs.configs[r].extends.run)
    for name in ("metrics.jsonl", versions.FILE):
        if (old / name).is_file():
            files.write_bytes(where / name, (old / name).read_bytes())


def notes(inputs: Inputs) -> list[str]:
    """What the user is told when runs begin to extend others."""
    if not inputs.first:
        return []
    of = "a model" if inputs.model else inputs.config.extends.run
    return told(before_of(inputs, 0), of, inputs.count)


def told(model: Model, of: str, count: int) -> list[str]:
    """What `count` runs go on from, as lines: the first one's `model`, what it is called, what its
    tasks use."""
    others = f" (and {count - 1} more)" if count > 1 else ""
    return [f"going on from {of}{others}: {len(model.names)} tasks learned", *capacity(model)]


def capacity(model: Model) -> list[str]:
    """What the tasks so far use of a model, as lines; [] for an approach without gates."""
    used = metrics.capacity(model.approach, model.network, model.params, model.memory)
    return display.used(used) if used else []
