"""What the fields of a configuration may be.

The limits are those of 32-bit numbers, in which the compiled program counts and computes, and
elsewhere far beyond what anybody trains: a larger number is a slip, and must not take the memory.
"""

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Range(NamedTuple):
    """The values that a field may have."""

    words: str  # completes the message "config.FIELD = VALUE: expected ..."
    test: Callable[[Any], object]  # whether it may be a value; one that raises is none
    any_type: bool = False  # False: a value must also be of the type of the field's default


def whole(least: int, most: int, note: str = "") -> Range:
    """Whole numbers from `least` to `most`."""
    words = f"a whole number of at least {least}, at most {most}{note}"
    return Range(words, lambda v: least <= v <= most)


def one_of(*texts: str) -> Range:
    """One of some texts."""
    *most, last = map(repr, texts)
    return Range(f"{', '.join(most)} or {last}", lambda v: v in texts)


def is_name(v: str) -> bool:
    """Whether a text can be the name of a file."""
    return bool(re.fullmatch(r"[^/\\\x00-\x1f]+", v)) and v[0] != "." and len(os.fsencode(v)) <= 100


def is_number(v: object) -> bool:
    """Whether it is a whole number or a float; True and False are none."""
    return isinstance(v, int | float) and not isinstance(v, bool)


def is_seeds(v: tuple) -> bool:
    """Whether it has different seeds, at least one."""
    return 0 < len(set(v)) == len(v) and all(type(n) is int and 0 <= n < 2**32 for n in v)


def is_plain(v: Any) -> bool:
    """Whether it can be written as JSON and read again."""
    if isinstance(v, tuple):
        return all(is_plain(x) for x in v)
    return isinstance(v, bool | float | str) or isinstance(v, int) and abs(v) < 2**63


POSITIVE = Range("a number from 1e-37 to 3e38", lambda v: 1e-37 <= v <= 3e38)
WEIGHT = Range("a number from 0 to 3e38", lambda v: 0 <= v <= 3e38)
ABOVE_1 = Range("a number above 1, at most 3e38", lambda v: 1 < v <= 3e38)
STEEPNESS = Range(  # its square enters the gradient of the embeddings (hat.compensate)
    "a number above 1, at most 1e18 (usual: 25 to 800), since its square must be a 32-bit number",
    lambda v: 1 < v <= 1e18,
)
SHARE = Range("a number from 0 up to, not including, 1", lambda v: 0 <= v < 1)
SHARE_OF_WEIGHTS = Range("a number above 0, at most 1", lambda v: 0 < v <= 1)
COUNT = whole(1, 2**31 - 1)
BATCH = whole(1, 10**6)
NAME = Range("a name of at most 100 letters without / or \\, and no dot first", is_name)
PATH = Range("the path of a folder", lambda v: "\0" not in v and len(os.fsencode(v)) < 4096)
PLAIN = Range("numbers, texts, True, False, or tuples of them", is_plain)

# Of networks.
WIDTHS = Range(
    "a tuple of one to 1000 whole numbers from 1 to 1000000",
    lambda v: 1 <= len(v) <= 1000 and all(type(n) is int and 1 <= n <= 10**6 for n in v),
)
UNITS = whole(1, 10**6)
SMALL_COUNT = whole(1, 1000)
RATES = Range(
    "a number from 0 up to, not including, 1, or a tuple of them",
    lambda v: all(is_number(p) and 0 <= p < 1 for p in (v if isinstance(v, tuple) else (v,))),
    any_type=True,
)
EXPAND = Range("a number above 0, at most 100", lambda v: 0 < v <= 100)
CONV = one_of("auto", "patches", "native")
NORM = one_of("batch", "layer", "group", "none")

# Of runs and studies.
SEEDS = Range(
    "a whole number of at least 1, at most 10000, or a tuple of different whole numbers from 0 to "
    "2**32 - 1",
    lambda v: is_seeds(v) if isinstance(v, tuple) else type(v) is int and 1 <= v <= 10000,
    any_type=True,
)

# The fields that every configuration has. Those of config.approach and config.network are checked
# by the ranges in the approach's and the network's own file. Others may be anything of their type.
FIELDS: dict[str, Range] = {
    "experiment": NAME,
    "seed": Range("a whole number from 0 to 2**32 - 1", lambda v: 0 <= v < 2**32),
    "seeds": SEEDS,
    "at_once": whole(0, 2**31 - 1, " (0: all that fit)"),
    "fidelity": one_of("paper", "code"),
    "data.root": PATH,
    "data.sets": Range(
        "a tuple of at least one name, each of at most 100 letters without / or \\",
        lambda v: v and all(is_name(n) for n in v),
    ),
    "data.image": Range(
        "() or a tuple of three whole numbers from 1 to 65535: height, width, channels",
        lambda v: len(v) in (0, 3) and all(type(n) is int and 1 <= n < 2**16 for n in v),
    ),
    "data.augment": Range(
        "a tuple of 'crop' and 'flip', or ()",
        lambda v: set(v) <= {"crop", "flip"} and len(set(v)) == len(v),
    ),
    "data.stream": one_of("auto", "yes", "no"),
    "data.examples": whole(0, 2**31 - 1, " (0: all)"),
    # "given" is what hatjax.fit makes of arrays.
    "tasks.kind": Range("'permuted' or 'split'", lambda v: v in ("permuted", "split", "given")),
    "tasks.count": whole(1, 10000),
    "tasks.valid": Range("a number between 0 and 1", lambda v: 0 < v < 1),
    "tasks.valid_code": SHARE,
    "extends.run": PATH,
    "extends.tasks": Range(
        "a tuple of whole numbers from 1 to 10000, which is filled in",
        lambda v: all(type(n) is int and 1 <= n <= 10000 for n in v),
    ),
    "schedule": one_of("plateau", "cosine", "constant"),
    "optimizer.name": Range("the name of an optimizer of optax", lambda v: v and len(v) <= 100),
    "lr": POSITIVE,
    "lr_factor": ABOVE_1,
    "lr_patience": COUNT,
    "lr_min": POSITIVE,
    "epochs": COUNT,
    "batch": BATCH,
    "mesh.data": whole(1, 10**6),
    "precision": one_of("default", "float32", "tensorfloat32", "bfloat16"),
    "eval_batch": BATCH,
    "on_nan": one_of("stop", "lower"),
    "checkpoint.epochs": whole(0, 2**31 - 1, " (0: none)"),
    "checkpoint.minutes": Range("a number from 0 to 3e38 (0: none)", lambda v: 0 <= v <= 3e38),
}

# What a field is whose default is of a type.
TYPES: dict[type, Range] = {
    bool: Range("True or False", lambda v: isinstance(v, bool)),
    int: Range("a whole number", lambda v: type(v) is int),
    float: Range("a number", is_number),
    str: Range("a text", lambda v: isinstance(v, str)),
    tuple: Range("a tuple", lambda v: isinstance(v, tuple)),
}
