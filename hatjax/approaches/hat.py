"""Hard Attention to the Task (Serra, Suris, Miron and Karatzoglou, ICML 2018) as an approach.

The method itself is hatjax/hat.py; here it is put together with a configuration and a network.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax import hat, protection
from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.config.ranges import Range
from hatjax.errors import InputError
from hatjax.fidelity import departures
from hatjax.training import optimizers
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Array, Network, Step, Tree


class Settings(NamedTuple):
    s_max: float = 400.0  # the steepness of the gates at the end of an epoch; good: 25..800
    c: float = 0.75  # weight of the sparsity R in the loss (eq. 4); good: 0.1..2.5
    clip: float = 10000.0  # largest global norm of a gradient (published code)
    e_max: float = 6.0  # embeddings stay within |e| <= e_max (published code)
    cosh_max: float = 50.0  # |s e| is cut there in hat.compensate (published code)


def parts(own: Tree) -> Tree:
    """Parameters, gradients or updates, in the two parts that hat.optimizer takes them in."""
    return {"net": {k: own[k] for k in ("trunk", "norms", "head")}, "gates": own["gates"]}


def make(config: ConfigDict, network: Network) -> Approach:
    """HAT on a gated network; `network.units` says which units have gates.

    memory: "past", the cumulative gates a^{<=t} of the tasks learned so far, {gate: "units"}, 0..1;
    zeros before the first task.
    """
    rate = optimizers.make(config)
    full = 0.0 if departures(config).finite_sparsity else jnp.nan  # R when no unit is free

    def init(key):
        params = network.init(key)
        return params, {"past": hat.no_past(params["gates"])}

    def begin_task(params, memory, step):
        # The embeddings of the other tasks, which start as any number, are cut to |e| <= e_max;
        # those of this task are cut after each of its steps.
        def keep(e: Array) -> Array:  # "T units"
            bound = step.hyper.approach.e_max
            mine = (jnp.arange(len(e)) == step.task)[:, None]
            return jnp.where(mine, e, jnp.clip(e, -bound, bound))

        return params | {"gates": jax.tree.map(keep, params["gates"])}, memory

    def steep(step: Step) -> Array:
        return hat.anneal(step.progress, step.hyper.approach.s_max, config.approach.anneal)

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, step.task, steep(step), step.key, batch.weight)
        r = hat.sparsity(out.gates, memory["past"], full)
        return cross_entropy(out.logits, batch) + step.hyper.approach.c * r, out  # eq. 4

    def optimizer(memory, step: Step):
        tx = hat.optimizer(
            rate(step.lr),
            network.axes,
            s_max=step.hyper.approach.s_max,
            clip=step.hyper.approach.clip,
            overflow=jnp.nan,  # an epoch that the runner takes back
            e_max=step.hyper.approach.e_max,
            cosh_max=step.hyper.approach.cosh_max,
        )
        now = dict(
            past=memory["past"],
            s=steep(step),
            task=step.task,
        )

        def update(grads, state, own):
            updates, state = tx.update(parts(grads), state, parts(own), **now)
            return updates["net"] | {"gates": updates["gates"]}, state

        return optax.GradientTransformation(lambda own: tx.init(parts(own)), update)

    def gates(params, memory, task, hyper):
        return network.gates(params, task, hyper.approach.s_max)

    def end_task(params, memory, data, step):
        if config.approach.binarise:
            bound = step.hyper.approach.e_max
            params = params | {"gates": hat.binarise(params["gates"], step.task, bound)}
        a = gates(params, memory, step.task, step.hyper)
        return params, {"past": hat.accumulate(memory["past"], a)}

    def predict(params, memory, x, task, hyper):
        return network.apply(params, x, task, hyper.approach.s_max).logits

    def report(params, memory, step):
        a = gates(params, memory, step.task, step.hyper)
        after = hat.accumulate(memory["past"], a)
        kept = protection.held(a, network.axes["trunk"], params["trunk"])
        return {"kept": kept} | {f"used_{name}": jnp.mean(p) for name, p in after.items()}

    return sgd.make(config, network)._replace(
        init=init,
        begin_task=begin_task,
        loss=loss,
        optimizer=optimizer,
        end_task=end_task,
        predict=predict,
        report=report,
        annealed=lambda progress, hyper: {
            "s": hat.anneal(progress, hyper.approach.s_max, config.approach.anneal)
        },
        gates=gates,
        past=lambda memory: memory["past"],
        with_past=lambda memory, past: {"past": past},
    )


def check(config: ConfigDict) -> None:
    """InputError where `binarise` cannot make gates exact: sigmoid(-104) is 0 in float32."""
    s_max, e_max = config.approach.s_max, config.approach.e_max
    if config.approach.binarise and s_max * e_max < 104:
        raise InputError(
            f"config.approach.binarise: with s_max = {s_max:g} and e_max = {e_max:g} a closed gate "
            "is not exactly 0; choose s_max * e_max of at least 104"
        )


APPROACH = ApproachSpec(
    make,
    label="HAT",
    settings=Settings(),
    ranges={
        "s_max": ranges.STEEPNESS,
        "c": ranges.WEIGHT,
        "clip": ranges.POSITIVE,
        "e_max": ranges.POSITIVE,
        "cosh_max": Range("a number above 0 and at most 80", lambda v: 0 < v <= 80),
        "gate_init": ranges.one_of("normal", "uniform"),
        "derivative": ranges.one_of("usual", "exact"),
        "anneal": ranges.one_of("linear", "cosine"),
    },
    usual={"c": (0, 4), "s_max": (10, 1000)},
    fixed=dict(
        # Embeddings start as "normal" N(0, 1), the paper's in most experiments, or "uniform"
        # U(0, 2), which opens all gates (section 4.4): better where a task trains a few epochs.
        gate_init="normal",
        derivative="usual",  # of the gate; or "exact" where s e > 17, too (hat.exact_sigmoid)
        anneal="linear",  # of s within an epoch (eq. 3), or "cosine"
        binarise=False,  # gates exactly 0 or 1 from the end of their task on
    ),
    later=dict(derivative="exact", anneal="linear", binarise=False),
    check=check,
    gated=True,
    smaller=False,
)
