"""How exactly a network computes its matrix products: config.precision."""

import functools
from typing import Any

import jax

from hatjax.types import Apply, Out


def at_precision(precision: str, apply: Apply) -> Apply:
    """`apply` with matrix products and convolutions, and so their gradients, at a precision."""

    @functools.wraps(apply)
    def precise(*args: Any, **kwargs: Any) -> Out:
        with jax.default_matmul_precision(precision):
            return apply(*args, **kwargs)

    return precise
