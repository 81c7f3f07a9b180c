"""A lower bound on the time of a step: its matrix products alone, and its memory traffic."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from hatjax import networks
from hatjax.benchmark.steps import Built, Case, tasks
from hatjax.data import feed
from hatjax.training import train
from hatjax.training.flops import shape
from hatjax.types import Array, Data, Step, Tree

PASSES = 4  # over the weights in an update: read w, read g for its norm, read g, write w
UPDATE_BYTES = 12  # that time_update moves for each number
LOOPS = 20  # of a timed kernel in one call, to hide the overhead of the call


def one_step(case: Case, built: Built) -> tuple[Callable, tuple]:
    """A training step, and its arguments as shapes."""
    c, approach = built.config, built.approach

    def step(own: Tree, memory: Tree, optimizer: Tree, data: Data, i: Array, step: Step):
        batch = feed.batch(data, None, i, c.batch)
        return train.train_step(approach, own, memory, optimizer, batch, step)[:3]

    hyper, t = train.hyperparameters(c), jnp.int32(min(1, case.tasks - 1))
    key = jax.random.key(0)
    at = Step(t, t, jnp.float32(0.5), jnp.float32(0.05), key, hyper)

    def start():
        params, memory = approach.init(key)
        own = approach.take(params, memory, at)
        return own, memory, train.moments(approach, own, memory, at)

    state = jax.eval_shape(start)
    data = jax.eval_shape(lambda: feed.pad(tasks(case, c.batch), 0, "train", c.batch))
    return step, (*state, data, jnp.int32(0), at)


def cost(case: Case, built: Built, compiled: bool = True) -> dict[str, float]:
    """The compiler's counts for a step: "flops" and "bytes accessed".

    Not `compiled`: those of the program that the compiler is given. Its flops are nearly the same,
    at once, and its bytes more: every operation reads and writes memory. The body of a loop counts
    once, and so do a CPU's convolutions (layers.of_patches) but for network.conv = "native".
    """
    step, args = one_step(case, built)
    lowered = jax.jit(step).lower(*args)
    counted: Any = (lowered.compile() if compiled else lowered).cost_analysis()
    return {k: counted[k] for k in ("flops", "bytes accessed")}


def parameters(built: Built) -> int:
    """The number of parameters that a step updates."""
    return sum(networks.count(built.network).values())


def time_products(eqns: list[JaxprEqn]) -> float:
    """Seconds for the products `eqns` alone, one after the other, on random numbers.

    One that is there several times, as in a scan, is timed once and counted so often.
    """
    times = Counter(map(id, eqns))
    once = {id(eqn): eqn for eqn in eqns}
    return sum(
        n * _time([eqn for k, eqn in once.items() if times[k] == n])
        for n in sorted({*times.values()})
    )


def _time(eqns: list[JaxprEqn]) -> float:
    """Seconds for different products, one after the other."""
    rng = np.random.default_rng(0)
    operands = [
        tuple(jnp.asarray(rng.standard_normal(shape(v)), jnp.float32) for v in eqn.invars)
        for eqn in eqns
    ]

    def body(_, carry):
        operands, _ = lax.optimization_barrier(carry)  # keeps them in the loop
        results = [
            eqn.primitive.bind(a, b, **eqn.params)
            for eqn, (a, b) in zip(eqns, operands, strict=True)
        ]
        return operands, results

    zeros = [jnp.zeros(shape(eqn.outvars[0])) for eqn in eqns]
    run = jax.jit(lambda *carry: lax.fori_loop(0, LOOPS, body, carry))
    return best(lambda: run(operands, zeros)) / LOOPS


def time_update(size: int) -> float:
    """Seconds for w - lr g on `size` float32 numbers: two reads and one write for each."""
    w = jax.random.normal(jax.random.key(0), (size,))

    def body(_, carry):
        w, g = lax.optimization_barrier(carry)
        return w - 0.05 * g, g

    run = jax.jit(lambda w, g: lax.fori_loop(0, LOOPS, body, (w, g)))
    return best(lambda: run(w, w)) / LOOPS


def best(run: Callable) -> float:
    """The shortest of a few timings in seconds: the bound is for an undisturbed machine."""
    jax.block_until_ready(run())
    times = []
    for _ in range(7):
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return min(times)
