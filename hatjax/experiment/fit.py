"""Train on arrays in memory, from Python."""

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax import networks
from hatjax.analysis import metrics, models
from hatjax.data import tasks
from hatjax.errors import Diverged, InputError, Interrupted, closest, shown
from hatjax.experiment import notebook, run, stop
from hatjax.types import Task
from hatjax.workdir import files, results


class Result(NamedTuple):
    """The result of `fit`."""

    accuracy: np.ndarray  # "T T": [t, u] is the accuracy on task u's test examples after task t
    model: models.Model

    def __repr__(self) -> str:
        acc, t = self.accuracy, len(self.accuracy)
        average, lost = metrics.average_accuracy(acc), metrics.forgetting(acc)
        return (
            f"<Result: accuracy {t} x {t}, after the last task {average:.1%} on average, "
            f"forgetting {lost:.1%}; model {self.model!r}>"
        )

    def _repr_html_(self) -> str:
        """For notebooks: the accuracies as a table."""
        return notebook.table(self.accuracy, self.model.names) + f"<p>{escape(repr(self))}</p>"


def fit(
    sets: Iterable[tuple],
    approach: str = "hat",
    workdir: str | Path | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    **settings,
) -> Result:
    """Learn a sequence of tasks, each given as (x_train, y_train, x_test, y_test).

    Examples are images "n h w" or "n h w c", or feature vectors "n d", of any of NumPy's numeric
    dtypes; tables of pandas or polars are read by the names of their columns. Labels are those of
    each task: text, whole numbers without gaps (0..classes-1, 1..classes, 10..19) or one-hot rows;
    hatjax.classes says what a model's classes are called. `settings` are configuration fields, by
    path or nested: epochs=20, network={"widths": (800, 800)}, **{"approach.s_max": 200.0}.
    `network` and `optimizer` may also be a name, and `network` your own Flax module
    (hatjax.networks.register); the default is an MLP of 2 x 400 units.

    Without a `workdir` nothing is kept on disk. With one, Ctrl-C and a notebook's interrupt save at
    the end of the epoch before they raise KeyboardInterrupt, an interrupted run resumes, and a
    finished one is not trained again; a run with other settings or arrays is refused, unless
    `overwrite` starts over. Raises InputError for unusable arguments, and Diverged if the loss
    becomes NaN or infinite.
    """
    with in_python():
        sets = listed(sets)
        config = configured(len(sets), approach, settings)
        return trained(config, tasks.of_arrays(config, sets), workdir, quiet, overwrite)


def listed(sets: Iterable[tuple]) -> list[tuple]:
    """The sets as a list; InputError for what is none."""
    try:
        return list(sets)
    except TypeError as error:
        raise InputError(
            f"the sets are a {type(sets).__name__}: expected a list of (x_train, y_train, x_test, "
            "y_test)"
        ) from error


def configured(count: int, approach: str, settings: dict) -> ConfigDict:
    """The configuration of `count` tasks with the settings of `fit`. Raises InputError."""
    given = flat(settings)
    if not isinstance(approach, str):
        raise InputError(
            f"approach = {shown(approach)}: expected a name, as in approach='hat'; its settings "
            "are given as **{'approach.c': 0.75}"
        )
    config = configs.of_arrays(max(count, 1), approach, given.get("network.name", "mlp"))
    return changed(config, given)


def flat(settings: dict) -> dict[str, object]:
    """The settings of `fit` as {path: value}; a network of one's own is registered."""
    given: dict[str, object] = {}
    for name, value in settings.items():
        if name == "network" and hasattr(value, "rules"):  # a Flax module
            name_of = value.__name__ if isinstance(value, type) else type(value).__name__
            networks.register(name_of, functools.partial(_module, value))
            value = name_of
        if name in ("network", "optimizer"):
            value = {"name": value} if isinstance(value, str) else value
            if not isinstance(value, dict):
                module = ", or a Flax module with `units` and `rules`" * (name == "network")
                raise InputError(
                    f"{name} = {shown(value)}: expected a name or a dict, as in {name}="
                    f"{{'FIELD': VALUE}}{module}"
                )
        given |= _flat(name, value)
    return given


def changed(config: ConfigDict, given: dict[str, object]) -> ConfigDict:
    """`config` with the fields {path: value} of `flat`. Raises InputError."""
    configs.choose(config, {k: v for k, v in given.items() if k.startswith("optimizer.")})
    known = configs.fields(config)
    for path, value in given.items():
        if path not in known:
            raise _unknown(path, value, known)
        if path in FIXED:
            raise InputError(f"setting {path} = {value!r}: {FIXED[path]}")
        config.update_from_flattened_dict({path: _like(known[path], value, path)})
    if config.seeds != 1 or config.grid:
        raise InputError("hatjax.fit trains one run: call it for each seed or setting")
    configs.check(config)
    return config


def _module(module: Any, config: ConfigDict, image: tuple[int, ...]) -> Any:
    """The module, for any configuration and image shape: a factory for networks.register."""
    return module


def trained(
    config: ConfigDict,
    sequence: list[Task],
    workdir: str | Path | None,
    quiet: bool,
    overwrite: bool,
    model: models.Model | None = None,
) -> Result:
    """The result of a run on these tasks; `model` is what it extends. The others are as in `fit`.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = Path(workdir or Path(folder) / "run")
        if not overwrite and files.finished(where, config):
            results.check_tasks(where, sequence)
        with stop.interrupts() if workdir else contextlib.nullcontext() as stopping:
            (accuracy,) = run.run_sweep(
                where,
                {"": config},
                overwrite,
                sequence=sequence,
                quiet=quiet,
                stopping=stopping,
                model=model,
            )
        return Result(accuracy, models.load(where))


# Settings that `fit` does not accept, and what to do instead.
FIXED = {
    "approach.name": 'name it as in hatjax.fit(sets, approach="ewc")',
    "approach.gated": "the approach determines it",
    "data.root": "the arrays are the data",
    "data.sets": "the arrays are the data",
    "data.image": "the arrays tell it",
    "tasks.kind": "the arrays are the tasks",
    "tasks.count": "the arrays are the tasks",
    "extends.run": "call hatjax.extend with the model or its workdir",
    "extends.tasks": "call hatjax.extend with the model or its workdir",
    "tasks.shuffle": "give the arrays in the order in which to learn them",
}


ONE_RUN = ("seeds", "grid", "at_once")  # fields of a configuration that are of no use to one run
ARGUMENTS = ("approach", "network", "optimizer", "overwrite", "quiet", "workdir")
ELSEWHERE = {  # what other libraries call them
    "verbose": "quiet",
    "silent": "quiet",
    "learning_rate": "lr",
    "batch_size": "batch",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "random_state": "seed",
    "hidden_sizes": "network.widths",
    "hidden_layer_sizes": "network.widths",
}


def _unknown(path: str, value: object, fields: Iterable[str]) -> InputError:
    """The error for a setting that `fit` does not take: all it takes, and which may be meant."""
    known = {*fields, *ARGUMENTS} - {*FIXED, *ONE_RUN}
    # By their last part, too: "s_max" for "approach.s_max". Of two, the one with fewer parts.
    last = {p.rpartition(".")[2]: p for p in sorted(known, key=lambda p: (-p.count("."), p))}
    name = path.rpartition(".")[2]
    near = ELSEWHERE.get(path) or last.get(name) or closest(path, known)
    near = near or last.get(closest(name, last) or "")
    form = f", written as **{{{near!r}: {shown(value)}}}" if near and "." in near else ""
    hint = f" Did you mean {near!r}{form}?" if near else ""
    if path == "approach":  # of hatjax.extend
        return InputError(
            f"setting approach = {shown(value)}: it is that of the model: leave it out; its "
            "settings are given as **{'approach.c': 0.75}"
        )
    if any(p.startswith(f"{path}.") for p in known):
        kinds = "a name or a dict" if path in ARGUMENTS else "a dict"
        hint = f" Expected {kinds}, as in {path}={{'FIELD': VALUE}}."
    return InputError(
        f"unknown setting {shown(path)}.{hint} Known: {', '.join(sorted(known))}; one with a point "
        "is written as **{'data.examples': 500}."
    )


def _flat(path: str, value: object) -> dict[str, object]:
    """A setting that may be a nested dict, as {path: value}."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for name, part in value.items() for k, v in _flat(f"{path}.{name}", part).items()}


def _like(default: object, value: object, path: str) -> object:
    """`value` converted to the type of `default`; InputError, naming the setting, if impossible.

    Accepts NumPy and JAX arrays and scalars, lists for tuples, and whole numbers for floats.
    """
    if hasattr(value, "tolist"):  # NumPy or JAX
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
def in_python() -> Iterator[None]:
    """Rewrite flags in error messages (--config.lr) as keyword arguments (lr)."""
    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(f"{error}: the same call goes on from there") from None
    except (InputError, Diverged) as error:
        raise type(error)(re.sub(r"(--)?\bconfig\.(?!json)|--(?=\w)", "", str(error))) from error
