"""Train on arrays that one has in memory, from Python."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax import results, run, tasks
from hatjax.errors import InputError, unknown


class Result(NamedTuple):
    """What was learned."""

    accuracy: np.ndarray  # "T T": [t, u] is the accuracy on task u's test examples after task t
    model: results.Model


def fit(
    sets: Sequence[tuple],
    approach: str = "hat",
    workdir: str | Path | None = None,
    quiet: bool = False,
    **settings,
) -> Result:
    """Learn a sequence of tasks, each given as (x_train, y_train, x_test, y_test).

    Examples are images "n h w" or "n h w c", or feature vectors "n d", of any numbers; labels are
    integers 0..classes-1, a task's own. `settings` are fields of the configuration, by path or in
    parts: epochs=20, network={"widths": (800, 800)}, **{"approach.s_max": 200.0}. The network is
    an MLP of 2 x 400 units unless they say otherwise. Without a `workdir` nothing is left on disk;
    with one, a run like any other is. Raises InputError for what cannot be used, and Diverged when
    the loss is no longer a number.
    """
    config = configs.of_arrays(len(sets), approach)
    known = configs.fields(config)
    given: dict[str, object] = {}
    for name, value in settings.items():
        parts = configs.fields(ConfigDict(value)) if isinstance(value, dict) else {"": value}
        given |= {f"{name}.{k}".rstrip("."): v for k, v in parts.items()}
    for path in given:
        if path not in known:
            raise unknown("setting", path, known)
    try:
        config.update_from_flattened_dict(given)
    except TypeError as error:
        raise InputError(str(error)) from error
    if config.seeds > 1 or config.grid:
        raise InputError("hatjax.fit trains one run: call it for each seed or setting")
    configs.check(config)
    sequence = tasks.of_arrays(config, sets)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(workdir or Path(folder) / "run")
        (accuracy,) = run.run_all({where: config}, sequence=sequence, quiet=quiet)
        return Result(accuracy, results.load(where))
