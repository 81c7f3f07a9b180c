"""Advice when the runs of a program do not fit into memory."""

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from hatjax.errors import InputError
from hatjax.training import device_memory
from hatjax.types import Approach, Task


@contextlib.contextmanager
def advice(
    config: ConfigDict, approach: Approach, sequence: list[Task], count: int
) -> Iterator[None]:
    """Turn running out of memory with `count` runs into an InputError that says what would fit."""
    free = device_memory.free_memory()
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        said = ("RESOURCE_EXHAUSTED", "Out of memory")  # by current and by older releases of JAX
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in said):
            raise
        raise InputError(
            f"out of memory: {device_memory.fitting(config, approach, sequence, count, free)}"
        ) from error
