"""The optimizer of a configuration: any of optax by name, with its own arguments.

    --config.optimizer.name=adamw --config.optimizer.weight_decay=0.05

The learning rate is that of the schedule (config.lr, hatjax.training.schedules); everything else in
config.optimizer is an argument of the optax function of that name.
"""

import inspect
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax.errors import InputError, oneline, shown, unknown
from hatjax.types import Array

Rate = Callable[[Array], optax.GradientTransformation]  # learning rate -> optimizer

NAMES: dict[str, Callable] = {  # besides those of optax
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
}


def make(config: ConfigDict) -> Rate:
    """The optimizer of config.optimizer as a function of the learning rate, which may be traced.

    Raises InputError for an unknown name or argument, or a value that the optimizer refuses.
    """
    given = config.optimizer.to_dict()
    name = given.pop("name")
    function = named(name)
    may = {k: p for k, p in inspect.signature(function).parameters.items() if k != "learning_rate"}
    for argument, value in given.items():
        if argument == "learning_rate":
            raise InputError(
                f"config.optimizer.learning_rate = {shown(value)}: the schedule sets it, give "
                "config.lr"
            )
        if argument not in may:
            raise unknown(f"argument of the optimizer {name!r}", argument, may)
    rate = partial(function, **given)
    trial = {"w": jnp.ones((2, 2))}
    try:
        optimizer = rate(0.1)
        jax.eval_shape(lambda w: optimizer.update(w, optimizer.init(w), w), trial)
    except Exception as error:  # optax raises many kinds, or needs more than a gradient
        arguments = ", ".join(f"{k}={v!r}" for k, v in given.items())
        raise InputError(
            f"config.optimizer: optax.{name}({arguments}) cannot be used ({oneline(error)}); it "
            f"takes {', '.join(may) or 'no arguments'}"
        ) from error
    return rate


def named(name: str) -> Callable:
    """The function of that name; InputError, with the known ones, if it is no optimizer."""
    if name in NAMES:
        return NAMES[name]
    try:
        found: Any = operator.attrgetter(name)(optax)
    except AttributeError:
        found = None
    if not _is_optimizer(found):
        raise unknown("optimizer", name, {*NAMES, *filter(_by_name, dir(optax))})
    return found


def _by_name(name: str) -> bool:
    return not name.startswith("_") and _is_optimizer(getattr(optax, name))


def _is_optimizer(found: Any) -> bool:
    """Whether it is a function that makes an optimizer from a learning rate."""
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False
    return (
        inspect.isfunction(found)
        and "learning_rate" in parameters
        and not found.__name__.startswith(("scale_by", "inject"))
    )
