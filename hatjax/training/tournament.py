"""PathNet's schedule: rival paths take turns in training, and the best is copied with mutations.

A rival is a path that may become the task's. In every generation the rivals are trained one after
the other for some epochs each, on the same modules, which each takes as the last one left them. At
its end the parameters of the smallest validation loss so far are restored; the rival that had it
stays, and the others are replaced by mutations of it. Each rival has a learning rate of its own,
which falls as in hatjax.training.plateau.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.types import Array, Schedule, Tree

MOST = 2  # a mutated module's number changes by at most so much


class Tournament(NamedTuple):
    """Where the search for a task's path stands: P rivals, paths "L N" of N modules in L layers."""

    rivals: Array  # "P L N"
    rates: Array  # "P", the learning rate of each
    losses: Array  # "P", the smallest validation loss of each so far
    patience: Array  # "P" int32, how many more epochs without a smaller loss lower its rate
    turn: Array  # int32[], whose turn it is
    epoch: Array  # int32[], which epoch of the turn, from 0
    generation: Array  # int32[]
    winner: Array  # int32[], the rival of the smallest loss of all
    least: Array  # float32[], that loss
    params: Tree  # the parameters then
    done: Array  # bool[]

    @property
    def lr(self) -> Array:
        """The learning rate of the next epoch."""
        return self.rates[self.turn]


def random_path(key: Array, layers: int, modules: int, active: int) -> Array:
    """A path "L N" of different modules in each layer."""
    keys = jax.random.split(key, layers)
    return jax.vmap(lambda k: jax.random.permutation(k, modules)[:active])(keys).astype(jnp.int32)


def mutate(key: Array, path: Array, modules: int) -> Array:
    """Change each module number of a path "L N", with probability 1/(L N), by a random -2..2.

    The result is taken modulo `modules`. A module that the path has in that layer already is not
    taken; in the published code it may be.
    """
    layers, active = path.shape
    chance, amount = jax.random.split(key)
    moves = jax.random.bernoulli(chance, 1 / path.size, path.shape)
    steps = jax.random.randint(amount, path.shape, -MOST, MOST + 1)
    for k in range(active):
        moved = (path[:, k] + steps[:, k]) % modules
        free = jnp.all(moved[:, None] != path, axis=1)
        path = path.at[:, k].set(jnp.where(moves[:, k] & free, moved, path[:, k]))
    return path


def make(config: ConfigDict) -> Schedule:
    """The tournament of config.approach.rivals paths over config.approach.generations.

    A turn, in which one rival is trained, has config.epochs / (generations * rivals) epochs,
    rounded up, so that a task is trained for config.epochs in all. By default these are twice those
    of other approaches: in the published code each of two rivals trains for the full number. If
    the epochs are fewer than the turns, or no multiple of them, the last generations do not take
    place.
    """

    def start(params: Tree, memory: Tree, step):
        count = config.approach.rivals
        _, layers, active = memory["paths"].shape
        keys = jax.random.split(jax.random.fold_in(step.key, 1), count)
        draw = jax.vmap(lambda key: random_path(key, layers, memory["held"].shape[1], active))
        state = Tournament(
            rivals=draw(keys),
            rates=jnp.full(count, step.hyper.lr),
            losses=jnp.full(count, jnp.inf),
            patience=jnp.full(count, config.lr_patience, jnp.int32),
            turn=jnp.int32(0),
            epoch=jnp.int32(0),
            generation=jnp.int32(0),
            winner=jnp.int32(0),
            least=jnp.float32(jnp.inf),
            params=params,
            done=jnp.bool(False),
        )
        return state, walk(state, state.turn, memory, step)

    def update(state: Tournament, loss: Array, params: Tree, memory: Tree, step):
        """After an epoch of state.turn that ended with `params` and validation loss `loss`."""
        state = recorded(state, loss, params, step)
        alive = state.rates >= step.hyper.lr_min  # "P"
        over = (state.epoch + 1 >= epochs_a_turn(config)) | ~alive[state.turn]
        waiting = alive & (jnp.arange(len(alive)) > state.turn)
        ends = over & ~jnp.any(waiting)  # the generation
        bred = breed(state, step.key)
        state = jax.tree.map(lambda new, old: jnp.where(ends, new, old), bred, state)
        alive = state.rates >= step.hyper.lr_min
        later = jnp.where(ends, jnp.argmax(alive), jnp.argmax(waiting))
        out = state.generation >= config.approach.generations
        state = state._replace(
            turn=jnp.where(over, later, state.turn).astype(jnp.int32),
            epoch=jnp.where(over, 0, state.epoch + 1),
            done=state.done | (ends & (out | ~jnp.any(alive))),
        )
        params = jax.tree.map(lambda best, p: jnp.where(ends, best, p), state.params, params)
        return state, params, walk(state, state.turn, memory, step)

    def recorded(state: Tournament, loss: Array, params: Tree, step) -> Tournament:
        """The state that has taken note of the loss of an epoch of the rival whose turn it is."""
        me, best = state.turn, loss < state.least
        better = loss < state.losses[me]
        left = jnp.where(better, config.lr_patience, state.patience[me] - 1)
        rate = state.rates[me]
        return state._replace(
            rates=state.rates.at[me].set(
                jnp.where(left <= 0, rate / step.hyper.lr_factor, rate)
            ),
            losses=state.losses.at[me].set(jnp.where(better, loss, state.losses[me])),
            patience=state.patience.at[me].set(jnp.where(left <= 0, config.lr_patience, left)),
            winner=jnp.where(best, me, state.winner),
            least=jnp.where(best, loss, state.least),
            params=jax.tree.map(lambda new, p: jnp.where(best, new, p), params, state.params),
        )

    def breed(state: Tournament, key: Array) -> Tournament:
        """The next generation: the winner, and mutations of it in place of the others."""
        best, others = state.winner, jnp.arange(len(state.rates)) != state.winner
        keys = jax.random.split(key, len(others))
        modules = config.network.modules
        children = jax.vmap(lambda k: mutate(k, state.rivals[best], modules))(keys)
        return state._replace(
            rivals=jnp.where(others[:, None, None], children, state.rivals),
            rates=jnp.where(others, state.rates[best], state.rates),
            losses=jnp.where(others, jnp.inf, state.losses),
            patience=jnp.where(others, config.lr_patience, state.patience),
            generation=state.generation + 1,
        )

    def best(state: Tournament, params: Tree, memory: Tree, step):
        return state.params, walk(state, state.winner, memory, step)

    def mark_failed(state: Tournament) -> Tournament:
        return state._replace(patience=state.patience.at[state.turn].set(1))

    return Schedule(start, update, best, mark_failed)


def walk(state: Tournament, rival: Array, memory: Tree, step) -> Tree:
    """The memory with the path of a rival as the task's path."""
    return memory | {"paths": memory["paths"].at[step.task].set(state.rivals[rival])}


def epochs_a_turn(config: ConfigDict) -> int:
    """How many epochs a rival is trained at a time."""
    return -(-config.epochs // (config.approach.generations * config.approach.rivals))
