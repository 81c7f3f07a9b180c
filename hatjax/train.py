"""Training and evaluating one task: step, epoch and evaluation as pure functions, compiled once.

Everything here is written for one run with one set of hyperparameters. The task is a traced index,
tasks of different length are padded and their trip count is traced, so each function is compiled
once for all the tasks of a run, and nothing crosses between host and device inside an epoch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from ml_collections import ConfigDict

from hatjax import feed, plateau
from hatjax.networks import rows
from hatjax.types import Approach, Array, Batch, Data, Out, State, Step, Tree

Hyper = dict[str, Array]


class Program(NamedTuple):
    """The compiled functions of a run."""

    init: callable  # key -> params, memory
    begin: callable  # (params, memory, task, key, hyper) -> State
    epoch: callable  # (state, train, valid, task, hyper) -> State, metrics
    end: callable  # (state, train, task, hyper) -> params, memory
    evaluate: callable  # (params, memory, data, task, hyper) -> {"loss", "accuracy"}


def hyperparameters(config: ConfigDict) -> Hyper:
    """The numbers of config.approach and the first learning rate, as traced scalars."""
    numbers = {k: v for k, v in config.approach.items() if isinstance(v, float)}
    return {k: jnp.float32(v) for k, v in {**numbers, "lr": config.lr}.items()}


def compile(config: ConfigDict, approach: Approach) -> Program:
    """The functions of a run, to be compiled at their first call."""

    def begin(params: Tree, memory: Tree, task: Array, key: Array, hyper: Hyper) -> State:
        key, start = jax.random.split(key)
        params, memory = approach.begin_task(params, memory, task, start)
        optimizer = approach.transform.init(rows_of(approach, params, task))
        schedule = plateau.start(hyper["lr"], config.lr_patience, params)
        return State(params, memory, optimizer, schedule, key)

    def epoch(state: State, train: Data, valid: Data, task: Array, hyper: Hyper):
        key, shuffling, dropping = jax.random.split(state.key, 3)
        order = feed.shuffle(shuffling, train)
        state, losses, accuracy = run_steps(
            config, approach, state, train, order, task, dropping, hyper
        )
        scores = evaluate(config, approach, state.params, state.memory, valid, task, hyper)
        lr = state.plateau.lr
        schedule = plateau.update(
            state.plateau,
            scores["loss"],
            state.params,
            factor=config.lr_factor,
            patience=config.lr_patience,
            least=config.lr_min,
        )
        metrics = {
            "losses": losses,
            "train_accuracy": accuracy,
            "valid_loss": scores["loss"],
            "valid_accuracy": scores["accuracy"],
            "lr": lr,
            "done": schedule.done,
        }
        metrics |= approach.report(state.params, state.memory, evaluation_step(task, hyper))
        return state._replace(plateau=schedule, key=key), metrics

    def end(state: State, train: Data, task: Array, hyper: Hyper) -> tuple[Tree, Tree]:
        # With the key: the published code's Fisher information is taken with dropout.
        step = evaluation_step(task, hyper)._replace(key=state.key)
        return approach.end_task(state.plateau.params, state.memory, train, step)

    def scores(params: Tree, memory: Tree, data: Data, task: Array, hyper: Hyper):
        return evaluate(config, approach, params, memory, data, task, hyper)

    return Program(
        init=jax.jit(approach.init),
        begin=jax.jit(begin),
        epoch=jax.jit(epoch, donate_argnums=0),
        end=jax.jit(end, donate_argnums=0),
        evaluate=jax.jit(scores),
    )


def rows_of(approach: Approach, params: Tree, task: Array) -> Tree:
    """The parameters that a step of `task` works on."""
    return params if approach.whole else rows.take(params, task)


def train_step(
    approach: Approach, own: Tree, memory: Tree, optimizer: optax.OptState, batch: Batch, step: Step
) -> tuple[Tree, optax.OptState, Array, Out]:
    """One gradient step on a batch: new parameters and optimizer state, the loss, the output."""
    gradient = jax.value_and_grad(approach.loss, has_aux=True)
    (loss, out), grads = gradient(own, memory, batch, step)
    updates, optimizer = approach.transform.update(
        grads, optimizer, own, memory=memory, step=step
    )
    return optax.apply_updates(own, updates), optimizer, loss, out


def run_steps(
    config: ConfigDict,
    approach: Approach,
    state: State,
    data: Data,
    order: Array,
    task: Array,
    key: Array,
    hyper: Hyper,
) -> tuple[State, Array, Array]:
    """One pass over `data` in `order` "N": the state after it, losses "B" (padded), accuracy."""
    count = feed.trips(data, config.batch)
    most = -(-len(data.y) // config.batch)

    def body(i, carry):
        own, optimizer, losses, right = carry
        batch = feed.batch(data, order, i, config.batch)
        step = Step(
            task=task,
            progress=progress(config, i, count, data.n),
            lr=state.plateau.lr,
            key=jax.random.fold_in(key, i),
            hyper=hyper,
        )
        own, optimizer, loss, out = train_step(
            approach, own, state.memory, optimizer, batch, step
        )
        return own, optimizer, losses.at[i].set(loss), right + correct(approach, out, batch)

    own = rows_of(approach, state.params, task)
    carry = (own, state.optimizer, jnp.zeros(most), jnp.float32(0))
    own, optimizer, losses, right = lax.fori_loop(0, count, body, carry)
    params = own if approach.whole else rows.put(state.params, own, task)
    return state._replace(params=params, optimizer=optimizer), losses, right / data.n


def progress(config: ConfigDict, i: Array, count: Array, n: Array) -> Array:
    """How far the epoch is at batch i = 0..B-1: (b-1)/(B-1) (eq. 3); 1 if there is one batch.

    The published code takes the share of the examples seen before the batch, and never gets to 1.
    """
    if config.fidelity == "code":
        return i * config.batch / n
    return jnp.where(count > 1, i / jnp.maximum(count - 1, 1), 1).astype(jnp.float32)


def evaluation_step(task: Array, hyper: Hyper) -> Step:
    """The step of evaluation: at the end of an epoch (s = s_max), without dropout."""
    return Step(task, jnp.float32(1), jnp.float32(0), None, hyper)


def correct(approach: Approach, out: Out, batch: Batch) -> Array:
    """How many real examples of the batch are classified right."""
    if approach.correct is not None:
        return approach.correct(out, batch)
    return jnp.sum((jnp.argmax(out.logits, axis=-1) == batch.y) * batch.weight)


def evaluate(
    config: ConfigDict,
    approach: Approach,
    params: Tree,
    memory: Tree,
    data: Data,
    task: Array,
    hyper: Hyper,
) -> dict[str, Array]:
    """The approach's loss and the accuracy on `data`, without dropout and at s_max."""
    own = rows_of(approach, params, task)
    step = evaluation_step(task, hyper)

    def body(i, carry):
        loss, right = carry
        batch = feed.batch(data, None, i, config.eval_batch)
        value, out = approach.loss(own, memory, batch, step)
        return loss + value * jnp.sum(batch.weight), right + correct(approach, out, batch)

    count = feed.trips(data, config.eval_batch)
    loss, right = lax.fori_loop(0, count, body, (jnp.float32(0), jnp.float32(0)))
    return {"loss": loss / data.n, "accuracy": right / data.n}
