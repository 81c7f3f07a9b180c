"""What to do when the memory does not hold the runs of a program."""

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from hatjax.errors import InputError
from hatjax.training import replicas
from hatjax.types import Approach, Task


@contextlib.contextmanager
def advice(
    config: ConfigDict, approach: Approach, sequence: list[Task], count: int
) -> Iterator[None]:
    """Raises InputError, which says what would fit, where memory does not hold `count` runs."""
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
