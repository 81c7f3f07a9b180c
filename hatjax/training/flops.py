"""The matrix products and convolutions of a function, nearly all of a network's arithmetic."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr

KINDS = ("dot_general", "conv_general_dilated")


def products(function: Callable, *args) -> list[JaxprEqn]:
    """The products of function(*args), as the equations of its jaxpr that are one of KINDS.

    Our own convolutions are matrix products (networks/layers.py). One in a scan is there as often
    as it runs. Products whose result nothing uses, such as a gradient in the images, are left out:
    the compiler drops them.
    """

    def walk(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
        for eqn in jaxpr.eqns:
            if eqn.primitive.name in KINDS:
                yield eqn
            times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
            for inner in eqn.params.values():  # of jit, custom_jvp and others
                if hasattr(inner, "eqns"):
                    yield from times * list(walk(inner))

    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    used, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return list(walk(used))


def multiply_adds(eqn: JaxprEqn) -> int:
    """How many multiplications, each with an addition, a product takes."""
    if eqn.primitive.name == "conv_general_dilated":
        kernel, out = shape(eqn.invars[1]), shape(eqn.outvars[0])
        outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(out) * math.prod(kernel) // outputs
    ((contracted, _), _) = eqn.params["dimension_numbers"]
    left, out = shape(eqn.invars[0]), shape(eqn.outvars[0])
    return math.prod(out) * math.prod(left[i] for i in contracted)


def shape(variable: Any) -> tuple[int, ...]:
    """The shape of a variable of an equation."""
    return variable.aval.shape
