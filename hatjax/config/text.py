"""A configuration as dotted paths, and as JSON."""

import json
from typing import Any

from ml_collections import ConfigDict

from hatjax.errors import InputError, oneline

DEPTH = 10  # levels of a configuration in JSON: more is none, and would exhaust the stack


def fields(config: ConfigDict) -> dict[str, Any]:
    """All leaves by their dotted path, as in --config.approach.s_max."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{k}": v for k, v in fields(value).items()}
        else:
            flat[key] = value
    return flat


def to_json(config: ConfigDict) -> str:
    """The resolved configuration as JSON."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(text: str) -> ConfigDict:
    """The configuration that to_json wrote; its fields are not checked.

    Raises InputError for what is not JSON or no object, with names that cannot be fields' or more
    than DEPTH levels.
    """

    def tuples(v, depth=0):
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} levels")
        if isinstance(v, dict):
            return {k: tuples(x, depth + 1) for k, x in v.items()}
        return tuple(tuples(x, depth + 1) for x in v) if isinstance(v, list) else v

    try:
        content = tuples(json.loads(text))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, not an object")
        return ConfigDict(content)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"not a configuration in JSON ({oneline(error)})") from error
