"""Train on arrays that one has in memory, from Python."""

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax import networks
from hatjax.analysis import models
from hatjax.data import tasks
from hatjax.errors import Diverged, InputError, unknown
from hatjax.experiment import run
from hatjax.workdir import files, results


class Result(NamedTuple):
    """What was learned."""

    accuracy: np.ndarray  # "T T": [t, u] is the accuracy on task u's test examples after task t
    model: models.Model


def fit(
    sets: Iterable[tuple],
    approach: str = "hat",
    workdir: str | Path | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    **settings,
) -> Result:
    """Learn a sequence of tasks, each given as (x_train, y_train, x_test, y_test).

    Examples are images "n h w" or "n h w c", or feature vectors "n d", of any numbers; labels are
    integers 0..classes-1, a task's own. `settings` are fields of the configuration, by path or in
    parts: epochs=20, network={"widths": (800, 800)}, **{"approach.s_max": 200.0}. The network is
    an MLP of 2 x 400 units unless they say otherwise. Without a `workdir` nothing is left on disk;
    with one, a run like any other is: what was cut off there goes on, what is finished is not
    learned again, and another run, or one on other arrays, is refused, unless `overwrite` begins
    anew. A `network` or an `optimizer` may be a name alone, and a network a Flax module of one's
    own (hatjax.networks.register). Raises InputError for what cannot be used, and Diverged when the
    loss is no longer a number.
    """
    try:
        sets = list(sets)
    except TypeError as error:
        raise InputError(
            f"the sets are a {type(sets).__name__}: expected a list of (x_train, y_train, x_test, "
            "y_test)"
        ) from error
    with _in_python():
        return _fit(sets, configured(len(sets), approach, settings), workdir, quiet, overwrite)


def configured(count: int, approach: str, settings: dict) -> ConfigDict:
    """The configuration of `count` tasks with settings as `fit` takes them; InputError likewise."""
    given: dict[str, object] = {}
    for name, value in settings.items():
        if name == "network" and hasattr(value, "rules"):  # a module
            name_of = type(value).__name__
            networks.register(name_of, functools.partial(_module, value))
            value = name_of
        if name in ("network", "optimizer") and isinstance(value, str):
            value = {"name": value}
        given |= _flat(name, value)
    if not isinstance(approach, str):
        raise InputError(f"approach = {approach!r}: expected a name, as in approach='hat'")
    config = configs.of_arrays(max(count, 1), approach, given.get("network.name", "mlp"))
    configs.choose(config, {k: v for k, v in given.items() if k.startswith("optimizer.")})
    known = configs.fields(config)
    for path, value in given.items():
        if path not in known:
            raise unknown("setting", path, known)
        if path in TOLD:
            raise InputError(f"setting {path} = {value!r}: {TOLD[path]}")
        config.update_from_flattened_dict({path: _like(known[path], value, path)})
    if config.seeds > 1 or config.grid:
        raise InputError("hatjax.fit trains one run: call it for each seed or setting")
    configs.check(config)
    return config


def _module(module: Any, config: ConfigDict, image: tuple[int, ...]) -> Any:
    """The same module for any configuration, as networks.register takes it."""
    return module


def _fit(
    sets: list[tuple], config: ConfigDict, workdir: str | Path | None, quiet: bool, overwrite: bool
) -> Result:
    sequence = tasks.of_arrays(config, sets)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(workdir or Path(folder) / "run")
        if not overwrite and files.finished(where, config):
            results.check_tasks(where, sequence)
        (accuracy,) = run.run_sweep(where, {"": config}, overwrite, sequence=sequence, quiet=quiet)
        return Result(accuracy, models.load(where))


# Settings that are not a caller's, and what tells them instead.
TOLD = {
    "approach.name": 'name it as in hatjax.fit(sets, approach="ewc")',
    "approach.gated": "the approach tells it",
    "data.root": "the arrays are the data",
    "data.sets": "the arrays are the data",
    "data.image": "the arrays tell it",
    "tasks.kind": "the arrays are the tasks",
    "tasks.count": "the arrays are the tasks",
    "tasks.shuffle": "give the arrays in the order in which to learn them",
}


def _flat(path: str, value: object) -> dict[str, object]:
    """A setting that may be given in parts, by path."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for name, part in value.items() for k, v in _flat(f"{path}.{name}", part).items()}


def _like(default: object, value: object, path: str) -> object:
    """`value` as a setting of the default's type; InputError, naming it, if it cannot be one.

    Numbers and arrays of NumPy and JAX, lists for tuples and whole numbers for floats will do.
    """
    if hasattr(value, "tolist"):  # of NumPy or JAX
        value = value.tolist()
    if isinstance(default, tuple) and isinstance(value, (tuple, list)):
        return tuple(v.tolist() if hasattr(v, "tolist") else v for v in value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        kind = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "a bool"}
        expected = kind.get(type(default).__name__, "a tuple")
        raise InputError(f"setting {path} = {value!r}: expected {expected}, as {default!r}")
    return value


@contextlib.contextmanager
def _in_python() -> Iterator[None]:
    """Errors name settings as Python's keywords rather than as flags of the command line."""
    try:
        yield
    except (InputError, Diverged) as error:
        raise type(error)(re.sub(r"(--)?\bconfig\.(?!json)|--(?=\w)", "", str(error))) from error
