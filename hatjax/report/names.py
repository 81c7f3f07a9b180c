"""Names in a report: approaches as in the paper, fields and values as text, files."""

import re
from collections.abc import Container, Mapping

from hatjax import config as configs
from hatjax.config import ranges


def paper(label: str) -> str:
    """A label such as "hat (c=0.1)" with the approach's name as in the paper: "HAT (c=0.1)"."""
    name, *rest = label.split(" ", 1)
    known = configs.APPROACHES[name].label if name in configs.APPROACHES else name
    return " ".join([known, *rest])


def words(fields: Mapping[str, object]) -> str:
    """Fields and values as text: "lr=0.1, network=resnet18"; a field that is True by name only."""
    return ", ".join(short(k) if v is True else f"{short(k)}={value(v)}" for k, v in fields.items())


def short(path: str) -> str:
    """A field without its section if its name is clear: "s_max", but "optimizer.eps".

    "network.name" and "optimizer.name" are "network" and "optimizer".
    """
    section, _, field = path.rpartition(".")
    if field == "name":
        return section
    common = {known.rpartition(".")[2] for known in ranges.FIELDS}
    unclear = section in ("optimizer", "extends") or (section == "network" and field in common)
    return path if unclear else field


def value(v: object) -> str:
    """A value as text; different values have different texts."""
    if isinstance(v, tuple):
        return ("+" if any(isinstance(x, str) for x in v) else "x").join(map(value, v))
    return f"{v:g}" if isinstance(v, float) and float(f"{v:g}") == v else str(v)


def slug(text: str, taken: Container[str] = ()) -> str:
    """A text as a file name that is not `taken`, safe for LaTeX."""
    name = re.sub("[^A-Za-z0-9_]+", "-", text).strip("-")
    while name in taken:
        name += "-again"
    return name
