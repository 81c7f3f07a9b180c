"""The grid of a sweep: fields and the values that it tries, and what its runs are called."""

import os
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from hatjax.config.checks import FREE, ranges_of, traced
from hatjax.config.making import choose
from hatjax.config.ranges import PLAIN
from hatjax.config.text import fields, literal, split
from hatjax.errors import InputError, shown, unknown

# Fields that no grid can vary, and why.
FIXED = dict.fromkeys(FREE, "it does not change what is learned") | {
    "seed": "give --config.seeds",
    "seeds": "give --config.seeds beside the grid",
    "grid": "it is the grid",
    "experiment": "it is only a name",
    "extends.run": "give --extend: of a folder of runs, each goes on from that of its name",
    "extends.tasks": "it is filled in",
    "approach.name": "several approaches are a study: python -m hatjax.study FILE",
    "approach.gated": "the approach determines it",
}


def axes(config: ConfigDict) -> dict[str, tuple[Any, ...]]:
    """The fields and values of config.grid, as "approach.c=0.1,1 network.widths=(9,9),(20,)".

    InputError for a field that is none or that no grid can vary, and for values that are none.
    """
    known, found = fields(config), {}
    for part in split(config.grid, " \t\r\n"):
        path, _, text = part.partition("=")
        given = f"config.grid = {shown(config.grid)}"
        if not part:
            continue
        if path in FIXED:
            raise InputError(f"{given}: it cannot vary {path}: {FIXED[path]}")
        if path not in known and not path.startswith(("network.", "optimizer.")):
            raise unknown("field of config.grid", path, known.keys() - FIXED.keys())
        if path in found:
            raise InputError(f"{given}: {path} is there twice")
        try:
            each = [value(config, path, item.strip()) for item in split(text, ",")]
        except ValueError as error:
            example = "approach.s_max=25,100 network.widths=(100,100),(400,400)"
            raise InputError(
                f"{given}: expected {error} after {path}=, separated by commas, got {text!r}; as "
                f'in --config.grid="{example}"'
            ) from error
        found[path] = tuple({repr(v): v for v in each}.values())
    return found


def value(config: ConfigDict, path: str, text: str) -> Any:
    """A value of the field `path` in a grid; ValueError, with what is expected, if it is none."""
    if path in traced(config):
        try:
            return float(text)
        except ValueError as error:
            raise ValueError("numbers") from error
    if not text:
        raise ValueError("values")
    found = literal(text)
    if text[0] in "([" and not isinstance(found, tuple):  # of one item: (100)
        found = tuple(found) if isinstance(found, list) else (found,)
    may = ranges_of(config.approach.name, config.network.name).get(path, PLAIN)
    needs_tuple = isinstance(fields(config).get(path), tuple) and not may.any_type
    if needs_tuple and not isinstance(found, tuple):
        raise ValueError("tuples, in brackets,")
    return found


def at(config: ConfigDict, point: Mapping[str, Any]) -> ConfigDict:
    """The configuration with {path: value} of a point of its grid, and without grid and seeds.

    It is not checked yet. InputError for a field that it does not have.
    """
    c = config.copy_and_resolve_references()
    with c.unlocked(), c.ignore_type():  # the check of ranges tells of a wrong type
        choose(c, dict(point))
        if strange := [path for path in point if path not in (known := fields(c))]:
            raise unknown("field of config.grid", strange[0], known.keys() - FIXED.keys())
        c.update_from_flattened_dict(dict(point) | {"seeds": 1, "grid": "", "at_once": 0})
    return c


def name(point: Mapping[str, Any]) -> str:
    """The name of a point of a grid, of its seed and settings: "seed0-s_max=25-widths=100x100"."""
    ends = [path.rpartition(".")[2] for path in point]

    def short(path: str) -> str:
        section, _, last = path.rpartition(".")
        return section if last == "name" else last if ends.count(last) == 1 else path

    parts = [f"{short(path)}={word(v)}" for path, v in point.items() if path != "seed"]
    return "-".join([f"seed{point['seed']}", *parts])


def word(v: Any) -> str:
    """A value as a part of the name of a folder; numbers have six digits."""
    if isinstance(v, tuple):
        return ("+" if any(isinstance(x, str) for x in v) else "x").join(map(word, v)) or "none"
    return f"{v:g}" if isinstance(v, float) else re.sub(r"[^\w.+=-]+", "_", str(v))


def alike(runs: Mapping[str, ConfigDict]) -> list[dict[str, ConfigDict]]:
    """The runs in groups, each of which one compiled program can train.

    Those of a group differ only in the seed and in the numbers that the program takes as arguments;
    where each extends the run of its own name (config.extends), those runs are in one folder.
    """
    groups: dict[str, dict[str, ConfigDict]] = {}
    for run, config in runs.items():
        own = {k: v for k, v in fields(config).items() if k not in {"seed", *traced(config)}}
        folder, _, last = own["extends.run"].rpartition(os.sep)
        own["extends.run"] = folder if last == run else own["extends.run"]
        groups.setdefault(repr(own), {})[run] = config
    return list(groups.values())
