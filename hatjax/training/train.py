"""Training and evaluating one task: step, epoch and evaluation as pure functions, compiled once.

Everything here is written for one run with one set of hyperparameters. The task is a traced index,
tasks of different length are padded and their trip count is traced, so each function is compiled
once for all the tasks of a run, and nothing crosses between host and device inside an epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.data import feed
from hatjax.training import keys
from hatjax.training.steps import (
    choose,
    correct,
    evaluation_step,
    gradient,
    moments,
    observed_step,
    progress,
    training_batch,
    training_step,
)  # fmt: skip
from hatjax.training.steps import train_step as train_step  # a part of this module for its users
from hatjax.types import Approach, Array, Data, Hyper, State, Tree, Turn
from hatjax.types import Step as Step  # likewise


class Program(NamedTuple):
    """The functions of a run, pure or compiled.

    `begin` and `evaluate` are called with params and memory as one unpacked pair, which mypy cannot
    count: they are typed by what they return.
    """

    init: Callable[[Array], tuple[Tree, Tree]]  # key -> params, memory
    # (params, memory, turn, key, hyper) -> the state before the first epoch of a task
    begin: Callable[..., State]
    # (state, train, valid, turn, hyper) -> state, metrics; data are Data, or a Stream of them
    epoch: Callable[..., tuple[State, dict[str, Array]]]
    # (state, train, turn, hyper) -> params, memory
    end: Callable[..., tuple[Tree, Tree]]
    # (params, memory, data, turn, hyper) -> {"loss", "accuracy"}
    evaluate: Callable[..., dict[str, Array]]


class Pass(NamedTuple):
    """Where a pass over the training data stands."""

    own: Tree  # the parameters that the task works on
    optimizer: optax.OptState
    losses: Array  # "B" of the batches, zeros for those to come
    right: Array  # float32[], how many examples were classified right
    memory: Tree  # what the approach remembers; None if no step changes it


class Sums(NamedTuple):
    """Where an evaluation stands: sums over the examples so far, float32[] each."""

    loss: Array
    right: Array


class Parts(NamedTuple):
    """What an epoch and an evaluation consist of, a stretch of batches first..until-1 at a time.

    hatjax.training.streaming puts the images of a stretch on the device before it.
    """

    # (state, train) -> the order "N" of the examples, the key of the steps
    shuffle: Callable[..., tuple[Array, Array]]
    # (state, train, turn, hyper) -> the pass before its first batch
    start: Callable[..., Pass]
    # (pass, state, train, order, turn, key, hyper, first, until) -> pass
    steps: Callable[..., Pass]
    # (pass, state, train, turn, hyper) -> the state after the pass, losses, accuracy
    stop: Callable[..., tuple[State, Array, Array]]
    # (state before the epoch, what `stop` gives, scores, train, turn, hyper) -> state, metrics
    close: Callable[..., tuple[State, dict[str, Array]]]
    # (sums, params, memory, data, turn, hyper, first, until) -> sums
    score: Callable[..., Sums]
    # (sums, data) -> {"loss", "accuracy"}
    means: Callable[[Sums, Data], dict[str, Array]]
    # (pass, state, train, order, turn, key, hyper, i) -> as gradient_sizes, at batch i
    sizes: Callable[..., Tree]


def hyperparameters(config: ConfigDict) -> Hyper:
    """The numbers that the compiled program takes as arguments; config.traced has their paths."""
    settings = configs.APPROACHES[config.approach.name].settings
    own = {field: jnp.float32(config.approach[field]) for field in settings._fields}
    return Hyper(
        lr=jnp.float32(config.lr),
        lr_factor=jnp.float32(config.lr_factor),
        lr_min=jnp.float32(config.lr_min),
        approach=settings._replace(**own),
    )


def compile(config: ConfigDict, approach: Approach) -> Program:
    """The functions of a single run, to be compiled at their first call."""
    f = functions(config, approach)
    return Program(
        init=jax.jit(f.init),
        begin=jax.jit(f.begin),
        epoch=jax.jit(f.epoch, donate_argnums=0),
        end=jax.jit(f.end),
        evaluate=jax.jit(f.evaluate),
    )


def functions(config: ConfigDict, approach: Approach) -> Program:
    """The functions of a run. hatjax.training.replicas maps them over many runs at once."""
    f = parts(config, approach)

    def begin(params: Tree, memory: Tree, turn: Turn, key: Array, hyper: Hyper) -> State:
        key, start = jax.random.split(key)
        step = evaluation_step(turn, hyper)._replace(key=start)
        params, memory = approach.begin_task(params, memory, step)
        schedule, memory = approach.schedule.start(params, memory, step)
        own = approach.take(params, memory, step)
        first = step._replace(lr=schedule.lr)  # which some optimizers keep (optax.rprop)
        return State(params, memory, moments(approach, own, memory, first), schedule, key)

    def epoch(before: State, train: Data, valid: Data, turn: Turn, hyper: Hyper):
        order, key = f.shuffle(before, train)
        trained = run_steps(config, approach, before, train, order, turn, key, hyper)
        state, *_ = trained
        found = scores(*state[:2], valid, turn, hyper)
        return f.close(before, trained, found, train, turn, hyper)

    def end(state: State, train: Data, turn: Turn, hyper: Hyper) -> tuple[Tree, Tree]:
        # With the key: the published code's Fisher information is taken with dropout.
        step = evaluation_step(turn, hyper)._replace(key=state.key)
        params, memory = approach.schedule.best(state.schedule, state.params, state.memory, step)
        return approach.end_task(params, memory, train, step)

    def scores(params: Tree, memory: Tree, data: Data, turn: Turn, hyper: Hyper):
        return evaluate(config, approach, params, memory, data, turn, hyper)

    def init(key: Array) -> tuple[Tree, Tree]:
        return approach.init(keys.plain(key))

    return Program(init, begin, epoch, end, scores)


def parts(config: ConfigDict, approach: Approach) -> Parts:
    """The parts of an epoch and of an evaluation; `state` is that before the epoch."""

    def shuffle(state: State, data: Data) -> tuple[Array, Array]:
        _, shuffling, dropping, _ = epoch_keys(state)
        return feed.shuffle(shuffling, data), dropping

    def start(state: State, data: Data, turn: Turn, hyper: Hyper) -> Pass:
        most = -(-data.y.shape[1] // feed.at_most(config.batch, data))
        own = approach.take(state.params, state.memory, evaluation_step(turn, hyper))
        moving = None if approach.observe is None else state.memory
        return Pass(own, state.optimizer, jnp.zeros(most), jnp.float32(0), moving)

    def steps(
        done: Pass, state: State, data: Data, order, turn: Turn, key, hyper: Hyper, first, until
    ) -> Pass:
        def body(i: Array, done: Pass) -> Pass:
            step = training_step(config, state, data, i, turn, key, hyper)
            batch = training_batch(config, data, order, i, step)
            own, optimizer, loss, out, memory = observed_step(
                approach, done.own, memory_of(done, state), done.optimizer, batch, step
            )
            losses, right = done.losses.at[i].set(loss), done.right + correct(approach, out, batch)
            return done._replace(
                own=own,
                optimizer=optimizer,
                losses=losses,
                right=right,
                memory=None if done.memory is None else memory,
            )

        count = feed.trips(data, feed.at_most(config.batch, data))
        return lax.fori_loop(first, until_end(until, count), body, done)

    def stop(done: Pass, state: State, data: Data, turn: Turn, hyper: Hyper):
        at = evaluation_step(turn, hyper)
        memory = memory_of(done, state)
        params = approach.put(state.params, done.own, memory, at)
        after = state._replace(params=params, memory=memory, optimizer=done.optimizer)
        return after, done.losses, done.right / data.n

    def close(
        before: State, trained, scores: dict[str, Array], data: Data, turn: Turn, hyper: Hyper
    ):
        state, losses, accuracy = trained
        key, _, _, choosing = epoch_keys(before)
        step = evaluation_step(turn, hyper)._replace(key=choosing)
        metrics = {
            "losses": losses,
            "train_accuracy": accuracy,
            "valid_loss": scores["loss"],
            "valid_accuracy": scores["accuracy"],
            "lr": before.schedule.lr,
        } | approach.report(state.params, state.memory, step)
        count = feed.trips(data, config.batch)
        ends = progress(config, jnp.stack([0 * count, count - 1]), count, data.n)
        for name, (first, last) in approach.annealed(ends, hyper).items():
            metrics |= {f"{name}_first": first, f"{name}_last": last}
        failed = ~(jnp.all(jnp.isfinite(losses)) & jnp.isfinite(scores["loss"]))
        marked = approach.schedule.mark_failed(before.schedule)
        trained = state._replace(schedule=before.schedule)
        # After an epoch whose loss is not a number, go on from the parameters before it.
        state = choose(failed, before._replace(schedule=marked), trained)
        loss = jnp.where(failed, jnp.inf, scores["loss"])
        schedule, params, memory = approach.schedule.update(
            state.schedule, loss, state.params, state.memory, step
        )
        anew = approach.restarts(state.memory, memory, step)
        own = approach.take(params, memory, step)
        fresh = moments(approach, own, memory, step._replace(lr=schedule.lr))
        optimizer = choose(anew, fresh, state.optimizer)
        after = State(params, memory, optimizer, schedule, key)
        if config.on_nan == "stop":  # and from the schedule and the key before it, too
            after = choose(failed, before, after)
        return after, metrics | {"failed": failed, "done": after.schedule.done}

    def score(
        sums: Sums, params: Tree, memory: Tree, data: Data, turn: Turn, hyper: Hyper, first, until
    ) -> Sums:
        step = evaluation_step(turn, hyper)
        own = approach.take(params, memory, step)
        batch_size = feed.at_most(config.eval_batch, data)

        def body(i: Array, sums: Sums) -> Sums:
            batch = feed.shared(config, feed.batch(data, None, i, batch_size))
            value, out = approach.loss(own, memory, batch, step)
            loss = sums.loss + value * jnp.sum(batch.weight)
            return Sums(loss, sums.right + correct(approach, out, batch))

        return lax.fori_loop(first, until_end(until, feed.trips(data, batch_size)), body, sums)

    def means(sums: Sums, data: Data) -> dict[str, Array]:
        return {"loss": sums.loss / data.n, "accuracy": sums.right / data.n}

    def sizes(
        done: Pass, state: State, data: Data, order, turn: Turn, key, hyper: Hyper, i: Array
    ) -> Tree:
        step = training_step(config, state, data, i, turn, key, hyper)
        batch = training_batch(config, data, order, i, step)
        _, grads = gradient(approach, done.own, memory_of(done, state), batch, step)
        return jax.tree.map(lambda g: jnp.nan_to_num(jnp.max(jnp.abs(g)), nan=jnp.inf), grads)

    return Parts(shuffle, start, steps, stop, close, score, means, sizes)


def memory_of(done: Pass, state: State) -> Tree:
    """The memory at a step of a pass that began with `state`."""
    return state.memory if done.memory is None else done.memory


def until_end(until: Array | None, count: Array) -> Array:
    """The batch before which a stretch ends: `until`, but at most all of `count`."""
    return count if until is None else jnp.minimum(until, count)


def no_sums() -> Sums:
    """The sums over no example."""
    return Sums(jnp.float32(0), jnp.float32(0))


def epoch_keys(before: State) -> Array:
    """Four keys: of the state after the epoch, for the order, for dropout, for the schedule."""
    return jax.random.split(before.key, 4)


def run_steps(
    config: ConfigDict,
    approach: Approach,
    state: State,
    data: Data,
    order: Array,
    turn: Turn,
    key: Array,
    hyper: Hyper,
) -> tuple[State, Array, Array]:
    """One pass over `data` in `order` "N".

    Returns the state after it, the losses of the batches "B", zeros beyond the real batches, and
    the accuracy on the real examples.
    """
    f = parts(config, approach)
    done = f.start(state, data, turn, hyper)
    done = f.steps(done, state, data, order, turn, key, hyper, 0, None)
    return f.stop(done, state, data, turn, hyper)


def gradient_sizes(
    config: ConfigDict,
    approach: Approach,
    state: State,
    data: Data,
    turn: Turn,
    hyper: Hyper,
    i: Array,
) -> Tree:
    """The largest absolute number in each parameter's gradient at batch i of the next epoch.

    It tells where a loss that is not a number comes from. What is not a number counts as infinite.
    """
    f = parts(config, approach)
    order, key = f.shuffle(state, data)
    done = f.start(state, data, turn, hyper)
    done = f.steps(done, state, data, order, turn, key, hyper, 0, i)
    return f.sizes(done, state, data, order, turn, key, hyper, i)


def evaluate(
    config: ConfigDict,
    approach: Approach,
    params: Tree,
    memory: Tree,
    data: Data,
    turn: Turn,
    hyper: Hyper,
) -> dict[str, Array]:
    """The approach's loss and the accuracy on `data`, without dropout and at s_max."""
    f = parts(config, approach)
    return f.means(f.score(no_sums(), params, memory, data, turn, hyper, 0, None), data)
