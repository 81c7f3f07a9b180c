"""The matrix products of a function, which are nearly all of a network's arithmetic.

Convolutions are among them (networks/layers.py).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn


def products(function: Callable, *args) -> list[JaxprEqn]:
    """The matrix products of function(*args), as the equations of its jaxpr that are one."""

    def walk(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "dot_general":
                yield eqn
            for inner in eqn.params.values():  # of jit, custom_jvp and the like
                if hasattr(inner, "eqns"):
                    yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*args).jaxpr))


def multiply_adds(eqn: JaxprEqn) -> int:
    """How many multiplications, each with an addition, a matrix product takes."""
    ((contracted, _), _) = eqn.params["dimension_numbers"]
    left, out = shape(eqn.invars[0]), shape(eqn.outvars[0])
    return math.prod(out) * math.prod(left[i] for i in contracted)


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable of an equation."""
    return variable.aval.shape
