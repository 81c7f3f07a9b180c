"""Which runs one program trains, and what to do when the memory does not hold them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from hatjax import checkpoints, replicas
from hatjax.errors import InputError
from hatjax.types import Approach, Task


def groups(
    places: list[Path], config: ConfigDict, approach: Approach, sequence: list[Task], at_once: int
) -> list[list[Path]]:
    """The workdirs of the runs that are trained by one program, `at_once` or as many as fit.

    Runs that began together go on together, which is what makes them bit-identical.
    """
    most = at_once or len(places)
    if len(places) > 1 and not at_once:
        (most,) = replicas.agreed([min(most, replicas.fit(config, approach, sequence))])
    if len(places) > most and replicas.writes():
        print(f"{len(places)} runs, {most} at once")
    begun = [checkpoints.group(where) for where in places if replicas.writes()]
    mark = replicas.agreed(
        [next((i for i, g in enumerate(begun) if where.name in g), -1) for where in places]
    )
    chunks = []
    for number in sorted(set(mark), key=mark.index):
        own = [where for where, m in zip(places, mark, strict=True) if m == number]
        size = len(own) if number >= 0 and not at_once else most
        chunks += [own[i : i + size] for i in range(0, len(own), size)]
    return chunks


@contextlib.contextmanager
def advice(
    config: ConfigDict, approach: Approach, sequence: list[Task], count: int
) -> Iterator[None]:
    """Says what would fit where the memory does not hold `count` runs: raises InputError."""
    free = replicas.free_memory()
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        said = ("RESOURCE_EXHAUSTED", "Out of memory")  # now, and by older releases
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in said):
            raise
        raise InputError(
            f"out of memory: {replicas.fitting(config, approach, sequence, count, free)}"
        ) from error
