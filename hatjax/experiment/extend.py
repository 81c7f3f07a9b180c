"""Add tasks to a trained model, from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.analysis import models
from hatjax.analysis.models import Model
from hatjax.data import tasks
from hatjax.data.tasks import joining
from hatjax.data.tasks.fingerprint import of_tests
from hatjax.data.tasks.holdout import hold_out
from hatjax.errors import InputError
from hatjax.experiment import extending, fit
from hatjax.types import Split, Task


def extend(
    model: Model | str | Path,
    sets: Sequence[tuple],
    earlier: Sequence[tuple] | None = None,
    workdir: str | Path | None = None,
    quiet: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> fit.Result:
    """Learn more tasks after those that a model has learned.

    `model` is one of hatjax.fit, hatjax.load or this function, or the workdir of a finished run; it
    does not change. `sets`, `workdir` and what else is given are as in hatjax.fit; settings that
    are not given are those of the model. Its network stays as it is, with rows for more tasks: so
    do the settings that say how it answers, such as approach.s_max.

    Every new task is followed by a test of all tasks, for which the test examples of the earlier
    ones are needed, in `earlier`: (x_test, y_test) for each, or the four arrays that were learned,
    which joint training needs; None for one that was forgotten. Without it they are read again from
    the model's image sets.

    The result has the accuracies of all tasks, those of the earlier ones first. Raises as
    hatjax.fit, and InputError for a task that is there already, examples of another shape, test
    examples that are missing or others, an approach that cannot grow, and a model some of whose
    tasks were not learned yet.
    """
    with fit.in_python():
        model = models.load(model) if isinstance(model, str | Path) else model
        if not isinstance(model, Model):
            raise InputError(
                f"the model is a {type(model).__name__}: expected one of hatjax.fit (result.model) "
                "or hatjax.load, or the workdir of a run"
            )
        _check(model)
        sets = fit.listed(sets)
        config = configured(model, len(sets), settings)
        before = _earlier(model, earlier)
        _check_union(model, before)
        new = tasks.of_arrays(config, sets, [about.columns for about in model.about])
        joining.check(before, new, extending.forgotten(model))
        return fit.trained(config, joining.after(before, new), workdir, quiet, overwrite, model)


def _check(model: Model) -> None:
    """Raise InputError if the model has tasks that it is yet to learn, or no accuracies."""
    gone = extending.forgotten(model)
    for t, there in enumerate(model.learned):
        if not there and t not in gone:
            raise InputError(
                f"the model has not learned its task {model.names[t]!r} yet: let its run finish "
                "before it is extended"
            )
    if model.accuracy is None or model.loss is None:
        raise InputError(
            "the model does not know its accuracies, since an older hatjax made it: give the "
            "workdir of its run"
        )


def _check_union(model: Model, before: Sequence[Task]) -> None:
    """Raise InputError if the approach trains on all tasks, and earlier ones have only a test."""
    lacking = [task.name for task in before if not len(task.train.y)]
    if model.approach.union and lacking:
        raise InputError(
            f"the approach {model.config.approach.name!r} trains on all tasks at once: give the "
            f"four arrays of each in earlier=, not the test of {lacking[0]!r} alone"
        )


def configured(model: Model, count: int, settings: dict) -> ConfigDict:
    """The configuration with which a model learns `count` more tasks. Raises InputError."""
    before = model.config.extends.tasks
    counts = (*before, len(model.names) - sum(before))
    base = extending.extended(model.config, extending.digest(model), counts)
    arrays = configs.of_arrays(max(count, 1), base.approach.name)
    base.experiment, base.data.sets, base.data.image = "arrays", arrays.data.sets, ()
    for field in ("kind", "count", "shuffle"):
        base.tasks[field] = arrays.tasks[field]
    config = fit.changed(base, fit.flat(settings))
    extending.check(config, model.config, "the model")
    return config


def _earlier(model: Model, given_sets: Sequence[tuple] | None) -> list[Task]:
    """The tasks that a model has learned, with their test examples.

    Raises InputError if these are not given, and not to be had, or are not those of the model.
    """
    stages, gone = (*model.earlier, model.config), extending.forgotten(model)
    if given_sets is None:
        if any(config.tasks.kind == tasks.GIVEN for config in stages):
            raise InputError(
                "earlier= is missing: after every new task all tasks are tested, and the model "
                "learned arrays, which are not kept: give (x_test, y_test) of each of its "
                f"{len(model.names)} tasks"
            )
        found = tasks.of_runs(stages)
    else:
        sets = fit.listed(given_sets)
        if len(sets) != len(model.names):
            raise InputError(
                f"earlier: {len(sets)} sets: expected one for each of the model's "
                f"{len(model.names)} tasks"
            )
        found = [_task(model, t, arrays) for t, arrays in enumerate(sets)]
    if model.tests:
        digests = [*of_tests(found).values()]
        changed = [t for t, d in enumerate(digests) if d != model.tests[t] and t not in gone]
        if changed:
            raise InputError(
                f"the test examples of the earlier task {model.names[changed[0]]!r} are not those "
                "that the model was tested on: give those, in the order of its tasks and as the "
                f"dtype that it had (now {found[changed[0]].test.x.dtype})"
            )
    return found


def _task(model: Model, t: int, arrays: tuple) -> Task:
    """Task t of a model with the test examples of (x_test, y_test), or with four arrays, too."""
    none = Split(np.zeros((0, *model.image), np.uint8), np.zeros(0, np.int32))
    train = valid = test = none
    if t not in extending.forgotten(model):
        if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 4):
            raise InputError(
                f"earlier[{t}]: expected (x_test, y_test), or the four arrays of hatjax.fit"
            )
        test = _split(model, t, *arrays[-2:])
        if len(arrays) == 4:
            train, valid = hold_out(model.config, *_split(model, t, *arrays[:2]))
    return Task(
        model.names[t],
        model.rows[t],
        model.network.classes[model.rows[t]],
        train,
        valid,
        test,
        model.mean[t],
        model.std[t],
        None if model.pixels is None else model.pixels[t],
        models.about_task(model, t),
    )


def _split(model: Model, t: int, x: Any, y: Any) -> Split:
    """Examples of task t of a model with their labels, as it has learned them: its columns in their
    order, its classes by their names. Raises InputError for others."""
    x, y = models.labelled(model, x, y, t)
    return Split(models.examples(x, model.image), np.asarray(y, np.int32))
