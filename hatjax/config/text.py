"""A configuration as dotted paths and as JSON, and its values as a user writes them."""

import ast
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


def literal(text: str) -> Any:
    """The value that a text means in a flag or a grid: "5" and "(100,200)" as in Python.

    What is no value in Python is a text, and commas make a tuple: "mnist,digits" and
    "(mnist,digits)" are ("mnist", "digits").
    """
    if is_value(text):
        return ast.literal_eval(text.strip())
    text = text.strip()
    items = split(text, ",")
    if len(items) == 1 and text[:1] + text[-1:] not in ("()", "[]"):
        return text
    items = split(text[1:-1], ",") if len(items) == 1 else items
    items = items if items[-1].strip() else items[:-1]  # a comma may end a tuple
    return tuple(
        ast.literal_eval(item.strip()) if is_value(item) else item.strip() for item in items
    )


def is_value(text: str) -> bool:
    """Whether a text is a number, a quoted text, a tuple or another plain value in Python."""
    try:
        ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def split(text: str, separators: str) -> list[str]:
    """The parts of a text between any of the separators that are not in brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter in separators and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
