"""What is kept with a model about a task's examples, as text in its files."""

import json
import math

from hatjax.types import About, Scale


def text(about: About) -> str:
    """One line of JSON that `read` takes."""
    fields = {"classes": about.labels, "columns": about.columns, "range": about.scale}
    return json.dumps(fields, ensure_ascii=False)


def read(line: str, classes: int, features: int) -> About:
    """What `text` wrote, of a task of `classes` classes and `features` columns (or channels).

    Raises ValueError if it is something else.
    """
    try:
        found = json.loads(line)
        labels, columns = tuple(found["classes"]), tuple(found["columns"])
        scale = found["range"] and Scale(*map(float, found["range"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("what it says about the examples cannot be read") from error
    for values, kinds, count in ((labels, (str, int), classes), (columns, (str,), features)):
        alike = any(all(type(v) is kind for v in values) for kind in kinds)
        if not alike or len(set(values)) != len(values) or len(values) not in (0, count):
            raise ValueError("its names of classes or columns do not fit")
    if scale and not (all(map(math.isfinite, scale)) and scale.low <= scale.high):
        raise ValueError("its range of numbers is none")
    return About(labels, columns, scale)
