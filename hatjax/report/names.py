"""What things are called: approaches as in the paper, fields and values in words, files."""

import re
from collections.abc import Mapping

from hatjax import config as configs
from hatjax.config import ranges


def paper(label: str) -> str:
    """A label such as "hat (c=0.1)" with the approach's name as in the paper: "HAT (c=0.1)"."""
    name, *rest = label.split(" ", 1)
    known = configs.APPROACHES[name].label if name in configs.APPROACHES else name
    return " ".join([known, *rest])


def words(fields: Mapping[str, object]) -> str:
    """Fields and their values: "lr=0.1, network=resnet18"; of one that is True the name alone."""
    return ", ".join(short(k) if v is True else f"{short(k)}={value(v)}" for k, v in fields.items())


def short(path: str) -> str:
    """A field without its section where no other has that name: "s_max", but "optimizer.eps".

    "network.name" and "optimizer.name" are "network" and "optimizer".
    """
    section, _, field = path.rpartition(".")
    if field == "name":
        return section
    common = {known.rpartition(".")[2] for known in ranges.FIELDS}
    unclear = section == "optimizer" or (section == "network" and field in common)
    return path if unclear else field


def value(v: object) -> str:
    """A value in words; two that differ are written differently."""
    if isinstance(v, tuple):
        return ("+" if any(isinstance(x, str) for x in v) else "x").join(map(value, v))
    return f"{v:g}" if isinstance(v, float) and float(f"{v:g}") == v else str(v)


def slug(text: str) -> str:
    """A text as the name of a file that LaTeX takes, too."""
    return re.sub("[^A-Za-z0-9_]+", "-", text).strip("-")
