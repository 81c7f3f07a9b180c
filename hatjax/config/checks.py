"""Whether a configuration can be used, told field by field."""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from hatjax.config import ranges
from hatjax.config.making import choose_network, make
from hatjax.config.ranges import Range
from hatjax.config.registry import APPROACHES, NETWORKS
from hatjax.config.text import fields
from hatjax.errors import InputError, shown, unknown

# Fields that do not say what is learned: a run may be resumed with others.
FREE = (
    "data.root", "data.stream", "at_once", "mesh.data", "on_nan", "checkpoint.epochs",
    "checkpoint.minutes",
)  # fmt: skip

# Fields that older runs lack; they were made as with the usual values.
LATER = (
    "optimizer.name", "schedule", "data.augment", "precision", "extends.run", "extends.tasks",
)  # fmt: skip


def check(config: ConfigDict) -> None:
    """Raise InputError, naming field and value, for the first field that is not as it must be.

    It is missing, unknown (but networks and approaches may have fields that are not listed), of
    another type or out of its range; or it does not go with another field.
    """
    mine = fields(config)
    name = mine.get("approach.name")
    if not isinstance(name, str):
        raise InputError(f"config.approach.name = {shown(name)}: expected the name of an approach")
    if name not in APPROACHES:
        raise unknown("approach", name, APPROACHES)
    spec = APPROACHES[name]
    if lacking(mine, name):
        raise other_approach(mine, name)
    network = mine.get("network.name")
    usual, optional = usual_fields(name, network), optional_fields(network)
    for path in usual:
        if path not in mine and path not in optional:
            raise InputError(
                f"config.{path} is missing: begin with a configuration of configs/, or "
                "hatjax.config.make"
            )
    may = ranges_of(name, network)
    for path, value in mine.items():
        check_field(path, value, usual, may)
    if config.approach.gated != spec.gated:
        raise InputError(
            f"config.approach.gated = {config.approach.gated}: the approach {name!r} needs "
            f"{spec.gated}; {chosen_by(name)}"
        )
    if spec.check is not None:
        spec.check(config)


def lacking(own: Mapping[str, Any], approach: str) -> list[str]:
    """The fields that an approach needs and a configuration with the fields `own` does not have."""
    spec = APPROACHES[approach]
    needs = [f"approach.{k}" for k in spec.fields()] + [f"network.{k}" for k in spec.network]
    return [path for path in needs if path not in own]


def other_approach(own: Mapping[str, Any], approach: str) -> InputError:
    """The error where an approach is named in the configuration, with fields `own`, of another."""
    lacks = "".join(f", without {path}" for path in lacking(own, approach)[:1])
    return InputError(
        f"config.approach.name = {approach!r}: the configuration is that of another approach"
        f"{lacks}; {chosen_by(approach)}"
    )


def chosen_by(approach: str) -> str:
    """How a user chooses an approach."""
    return f"choose it by --config configs/baseline.py:{approach},EXPERIMENT"


def usual_fields(approach: str, network: object) -> dict[str, Any]:
    """The fields of a configuration with that approach and network, and their usual values.

    Of a network that is not known here, a user's own that is not registered, only the name.
    """
    c = make("digits", approach)
    choose_network(c, network)
    flat = fields(c)
    if is_known(network):
        return flat
    return {path: v for path, v in flat.items() if not path.startswith("network.")} | {
        "network.name": c.network.name
    }


def is_known(network: object) -> bool:
    """Whether it is the name of a network."""
    return isinstance(network, str) and network in NETWORKS


def optional_fields(network: object) -> set[str]:
    """The paths that a configuration with that network may lack."""
    if not is_known(network):
        return set()
    spec = NETWORKS[str(network)]
    return {f"network.{field}" for field in (*spec.optional, *spec.later)}


def ranges_of(approach: str, network: object) -> dict[str, Range]:
    """The ranges of all fields of a configuration, by path."""
    own = APPROACHES[approach].ranges
    found = ranges.FIELDS | {k if "." in k else f"approach.{k}": r for k, r in own.items()}
    if is_known(network):
        found |= {f"network.{k}": r for k, r in NETWORKS[str(network)].ranges.items()}
    return found


def check_field(path: str, value: Any, usual: dict[str, Any], may: dict[str, Range]) -> None:
    """Raise InputError if the field `path` is none, or cannot have the value.

    `usual` are all fields with their usual values, `may` the ranges of some.
    """
    if path not in usual and not path.startswith(("network.", "approach.", "optimizer.")):
        raise unknown("field of the configuration", path, usual)
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"config.{path} = {value}: expected a finite number")
    if isinstance(value, float) and abs(value) > 3e38 and path not in may:
        raise InputError(f"config.{path} = {value}: expected a number up to 3e38")
    expected = may.get(path, ranges.PLAIN)
    if path in usual and not expected.any_type:
        of_type = ranges.TYPES[type(usual[path])]
        if not of_type.test(value):
            raise InputError(f"config.{path} = {shown(value)}: expected {of_type.words}")
    try:
        good = expected.test(value)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise InputError(f"config.{path} = {shown(value)}: expected {expected.words}")


def completed(config: ConfigDict) -> ConfigDict:
    """With the fields that runs of earlier versions lack: FREE, LATER, and `later` of their
    approach and network.
    """
    usual, content = fields(make("digits", "sgd")), config.to_dict()
    missing = {path: usual[path] for path in FREE + LATER}
    for part, known in (("approach", APPROACHES), ("network", NETWORKS)):
        name = fields(config).get(f"{part}.name")
        if isinstance(name, str) and name in known:
            missing |= {f"{part}.{field}": v for field, v in known[name].later.items()}
    for path, value in missing.items():
        part, _, field = path.rpartition(".")
        inner = content.setdefault(part, {}) if part else content
        if isinstance(inner, dict):
            inner.setdefault(field, value)
    return ConfigDict(content)


def traced(config: ConfigDict) -> dict[str, float]:
    """The numbers that the compiled program takes as arguments, by path: no change recompiles it.

    Those of the learning-rate schedule, and the settings of the approach.
    """
    settings = APPROACHES[config.approach.name].settings._fields
    paths = ("lr", "lr_factor", "lr_min", *(f"approach.{k}" for k in settings))
    flat = fields(config)
    return {path: float(flat[path]) for path in paths}
