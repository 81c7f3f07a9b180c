"""What things are called: approaches in print, fields and values in words, files."""

import re

# What stands in the paper for the names that are typed here.
NAMES = {
    "random": "Random", "joint": "Joint", "hat": "HAT", "sgd": "SGD", "sgd_frozen": "SGD-F",
    "sgd_restart": "SGD-R", "lwf": "LwF", "lfl": "LFL", "ewc": "EWC", "imm_mean": "IMM-mean",
    "imm_mode": "IMM-mode", "progressive": "PNN", "pathnet": "PathNet",
}  # fmt: skip


def paper(label: str) -> str:
    """A line's label with the approach's name as in the paper."""
    name, *rest = label.split(" ", 1)
    return " ".join([NAMES.get(name, name), *rest])


def words(fields: dict[str, object]) -> str:
    """Fields and values as in the names of a grid's workdirs: "s_max=25, c=0.1"."""

    def value(v: object) -> str:
        if isinstance(v, tuple):
            return "x".join(map(value, v))
        return f"{v:g}" if isinstance(v, float) else str(v)

    return ", ".join(
        k if v is True else f"{k.split('.')[-1]}={value(v)}" for k, v in fields.items()
    )


def slug(text: str) -> str:
    """A text as the name of a file that LaTeX takes, too."""
    return re.sub("[^A-Za-z0-9_]+", "-", text).strip("-")
