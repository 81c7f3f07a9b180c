"""Hard Attention to the Task (Serra, Suris, Miron and Karatzoglou, ICML 2018) as an approach.

The method itself is hatjax/hat.py; here it is put together with a configuration and a network.
"""

from collections.abc import Callable
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
from hatjax.types import Approach, Array, Network, Schedule, Step, Tree

OVER_TASK = "dip_task"  # the choice of `anneal` that needs the number of the epoch


class Settings(NamedTuple):
    s_max: float = 400.0  # the steepness of the gates at the end of an epoch; good: 25..800
    c: float = 0.75  # weight of the sparsity R in the loss (eq. 4); good: 0.1..2.5
    clip: float = 10000.0  # largest global norm of a gradient (published code)
    e_max: float = 6.0  # embeddings stay within |e| <= e_max (published code)
    cosh_max: float = 50.0  # |s e| is cut there in hat.compensate (published code)


def parts(own: Tree) -> Tree:
    """Parameters, gradients or updates, in the two parts that hat.optimizer takes them in."""
    return {"net": {k: own[k] for k in ("trunk", "norms", "head")}, "gates": own["gates"]}


def cumulative(own: Tree, memory: Tree, step: Step) -> Tree:
    """The past that eq. 2 protects."""
    return memory["past"]


def steepness(config: ConfigDict) -> Callable[[Tree, Step], Array]:
    """(memory, step) -> s, annealed as config.approach.anneal says; at evaluation s_max."""

    def steep(memory: Tree, step: Step) -> Array:
        s_max = step.hyper.approach.s_max
        if config.approach.anneal != OVER_TASK:
            return hat.anneal(step.progress, s_max, config.approach.anneal)
        if step.key is None:
            return s_max
        return hat.anneal((memory["epoch"] + step.progress) / config.epochs, s_max, "dip")

    return steep


def counting(schedule: Schedule) -> Schedule:
    """`schedule`, which also counts the epochs of a task in memory["epoch"]."""

    def update(state, loss, params, memory, step):
        state, params, memory = schedule.update(state, loss, params, memory, step)
        return state, params, memory | {"epoch": memory["epoch"] + 1}

    return schedule._replace(update=update)


def make(
    config: ConfigDict,
    network: Network,
    past: Callable[[Tree, Tree, Step], Tree] = cumulative,
    shares: Callable = protection.shares,
) -> Approach:
    """HAT on a gated network; `network.units` says which units have gates.

    `past` and `shares` say how far each parameter may move in a step, 0..1: shares, an argument of
    hat.optimizer, is given past(own, memory, step). As they are, these are the cumulative gates and
    eq. 2; AdaHAT gives others.

    memory: "past", the cumulative gates a^{<=t} of the tasks learned so far, {gate: "units"}, 0..1;
    zeros before the first task. Where s is annealed over a task, also "epoch" int32[], how many
    epochs of the task are over.
    """
    base = sgd.make(config, network)
    over_task = config.approach.anneal == OVER_TASK
    steep = steepness(config)
    first_epoch = {"epoch": jnp.int32(0)} if over_task else {}
    rate = optimizers.make(config)
    full = 0.0 if departures(config).finite_sparsity else jnp.nan  # R when no unit is free

    def init(key):
        params = network.init(key)
        return params, {"past": hat.no_past(params["gates"])} | first_epoch

    def begin_task(params, memory, step):
        # The embeddings of the other tasks, which start as any number, are cut to |e| <= e_max;
        # those of this task are cut after each of its steps.
        def keep(e: Array) -> Array:  # "T units"
            bound = step.hyper.approach.e_max
            mine = (jnp.arange(len(e)) == step.task)[:, None]
            return jnp.where(mine, e, jnp.clip(e, -bound, bound))

        return params | {"gates": jax.tree.map(keep, params["gates"])}, memory | first_epoch

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, step.task, steep(memory, step), step.key, batch.weight)
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
            shares=shares,
        )

        def update(grads, state, own):
            now = dict(past=past(own, memory, step), s=steep(memory, step), task=step.task)
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
        return params, memory | {"past": hat.accumulate(memory["past"], a)}

    def predict(params, memory, x, task, hyper):
        return network.apply(params, x, task, hyper.approach.s_max).logits

    def report(params, memory, step):
        a = gates(params, memory, step.task, step.hyper)
        after = hat.accumulate(memory["past"], a)
        kept = protection.held(a, network.axes["trunk"], params["trunk"])
        now = {"s_last": steep(memory, step)} if over_task else {}
        return {"kept": kept} | now | {f"used_{name}": jnp.mean(p) for name, p in after.items()}

    def grow(memory, fresh):
        # Not the epoch, which s may have been annealed by on one side alone.
        if more := (memory.keys() | fresh.keys()) - {"past", "epoch"}:
            raise ValueError(f"it remembers {min(more)!r}, too: say how that grows (Approach.grow)")
        return fresh | {"past": memory["past"]}

    def annealed(progress, hyper):
        if over_task:  # `report` has it
            return {}
        return {"s": hat.anneal(progress, hyper.approach.s_max, config.approach.anneal)}

    return base._replace(
        init=init,
        begin_task=begin_task,
        loss=loss,
        optimizer=optimizer,
        schedule=counting(base.schedule) if over_task else base.schedule,
        end_task=end_task,
        predict=predict,
        report=report,
        annealed=annealed,
        gates=gates,
        past=lambda memory: memory["past"],
        with_past=lambda memory, past: memory | {"past": past},
        grow=grow,
    )


def check(config: ConfigDict) -> None:
    """InputError where `binarise` cannot make gates exact: sigmoid(-104) is 0 in float32; and where
    s is annealed over all epochs of a task, but the schedule may end the task earlier."""
    s_max, e_max = config.approach.s_max, config.approach.e_max
    if config.approach.binarise and s_max * e_max < 104:
        raise InputError(
            f"config.approach.binarise: with s_max = {s_max:g} and e_max = {e_max:g} a closed gate "
            "is not exactly 0; choose s_max * e_max of at least 104"
        )
    if config.approach.anneal == OVER_TASK and config.schedule == "plateau":
        raise InputError(
            f"config.approach.anneal = {OVER_TASK!r}: s changes over all epochs of a task, which "
            "the schedule 'plateau' may end before them: take --config.schedule=cosine or constant"
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
        "gate_init": ranges.one_of("normal", "uniform", "dense"),
        "derivative": ranges.one_of("usual", "exact"),
        "anneal": ranges.one_of(*hat.SHAPES, OVER_TASK),
    },
    usual={"c": (0, 4), "s_max": (10, 1000)},
    fixed=dict(
        # Embeddings start as "normal" N(0, 1), the paper's in most experiments, or "uniform"
        # U(0, 2), which opens all gates (section 4.4): better where a task trains a few epochs; or
        # "dense", all open and equal at 1 (Duan, HAT-CL, 2023).
        gate_init="normal",
        derivative="usual",  # of the gate; or "exact" where s e > 17, too (hat.exact_sigmoid)
        # Of s within an epoch: "linear" (eq. 3), "cosine", or "dip", from s_max down and up again
        # (HAT-CL); "dip_task": that once over all epochs of a task. Both want gate_init "dense".
        anneal="linear",
        binarise=False,  # gates exactly 0 or 1 from the end of their task on
    ),
    later=dict(derivative="exact", anneal="linear", binarise=False),
    kept=("s_max", "e_max"),
    check=check,
    gated=True,
    smaller=False,
)
