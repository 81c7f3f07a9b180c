"""Many examples through a compiled function: in blocks, of a few sizes."""

from collections.abc import Callable

import jax
import numpy as np

from hatjax.types import Array


def in_blocks(
    function: Callable[[np.ndarray], Array], x: np.ndarray, most: int, whole: bool = False
) -> np.ndarray:
    """function(x), "n ..." for "n ...", computed for at most `most` examples at once.

    Each block is padded to a power of two, so that only a few sizes are ever compiled; `whole`: to
    `most`, so that one is.
    """
    found = []
    for i in range(0, max(len(x), 1), most):  # 0 examples are a block, too: it tells the shape
        some = x[i : i + most]
        size = most if whole else min(most, 1 << max(len(some) - 1, 0).bit_length())
        padding = np.zeros((size - len(some), *x.shape[1:]), x.dtype)
        found.append(np.asarray(function(np.concatenate([some, padding])))[: len(some)])
    return np.concatenate(found)


def traced(x: object) -> bool:
    """Whether x stands for numbers that are not known yet, as inside jax.jit or jax.grad."""
    return isinstance(x, jax.core.Tracer)
