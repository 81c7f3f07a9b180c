"""One step of training: its batch, its gradient, and the parameters after it."""


import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax.data import feed
from hatjax.fidelity import departures
from hatjax.types import (
    Approach,
    Array,
    Batch,
    Data,
    Hyper,
    Out,
    State,
    Step,
    Taken,
    Tree,
    Turn,
)

AUGMENTING = 1  # folded into the key of a step for the augmentation; dropout has the key itself


def train_step(
    approach: Approach, own: Tree, memory: Tree, optimizer: optax.OptState, batch: Batch, step: Step
) -> tuple[Tree, optax.OptState, Array, Out]:
    """One gradient step on a batch: new parameters and optimizer state, the loss, the output."""
    own, optimizer, loss, out, _ = observed_step(approach, own, memory, optimizer, batch, step)
    return own, optimizer, loss, out


def observed_step(
    approach: Approach, own: Tree, memory: Tree, optimizer: optax.OptState, batch: Batch, step: Step
) -> tuple[Tree, optax.OptState, Array, Out, Tree]:
    """As train_step, with the memory after the step besides: what approach.observe makes of it."""
    (loss, out), grads = gradient(approach, own, memory, batch, step)
    moving = trainable(own)
    towards = approach.redirect(grads, own, memory, step)
    updates, optimizer = approach.optimizer(memory, step).update(towards, optimizer, moving)
    moved = optax.apply_updates(moving, updates)
    if approach.observe is not None:
        memory = approach.observe(memory, Taken(moving, moved, grads), batch, step)
    return own | moved | {"stats": out.stats}, optimizer, loss, out, memory


def moments(approach: Approach, own: Tree, memory: Tree, step: Step) -> optax.OptState:
    """The optimizer's state before its first step."""
    return approach.optimizer(memory, step).init(trainable(own))


def trainable(own: Tree) -> Tree:
    """What an optimizer moves: all but running statistics."""
    return {part: p for part, p in own.items() if part != "stats"}


def gradient(
    approach: Approach, own: Tree, memory: Tree, batch: Batch, step: Step
) -> tuple[tuple[Array, Out], Tree]:
    """The loss on a batch with what the network gave, and its gradient in what is trainable."""

    def loss(moving: Tree) -> tuple[Array, Out]:
        return approach.loss(own | moving, memory, batch, step)

    return jax.value_and_grad(loss, has_aux=True)(trainable(own))


def training_step(
    config: ConfigDict, state: State, data: Data, i: Array, turn: Turn, key: Array, hyper: Hyper
) -> Step:
    """Batch i of an epoch over `data`."""
    return Step(
        task=turn.task,
        seen=turn.seen,
        progress=progress(config, i, feed.trips(data, config.batch), data.n),
        lr=state.schedule.lr * size(config, i, data.n),
        key=jax.random.fold_in(key, i),
        hyper=hyper,
    )


def training_batch(config: ConfigDict, data: Data, order: Array, i: Array, step: Step) -> Batch:
    """Batch i in `order`, augmented."""
    size = feed.at_most(config.batch, data)
    batch = feed.shared(config, feed.batch(data, order, i, size))
    if not config.data.augment or step.key is None:
        return batch
    return feed.augmented(config, batch, jax.random.fold_in(step.key, AUGMENTING))


def size(config: ConfigDict, i: Array, n: Array) -> Array:
    """The size of batch i of n examples as a share of a full one, 1 but for the last.

    The learning rate of a step is multiplied by it, so that every example counts the same. Without
    it a last batch of two examples would be a whole step, just before the epoch is evaluated.
    Always 1 in the published code (hatjax.fidelity).
    """
    if not departures(config).scaled_last_batch:
        return jnp.float32(1)
    return jnp.minimum(config.batch, n - i * config.batch) / jnp.minimum(config.batch, n)


def progress(config: ConfigDict, i: Array, count: Array, n: Array) -> Array:
    """How far the epoch is at batch i = 0..B-1: (b-1)/(B-1) (eq. 3); 1 if there is one batch.

    In the published code it is the share of the examples seen before the batch (hatjax.fidelity).
    """
    if not departures(config).annealing_to_s_max:
        return i * config.batch / n
    return jnp.where(count > 1, i / jnp.maximum(count - 1, 1), 1).astype(jnp.float32)


def evaluation_step(turn: Turn, hyper: Hyper) -> Step:
    """The step of evaluation: at the end of an epoch (s = s_max), without dropout."""
    return Step(*turn, jnp.float32(1), jnp.float32(0), None, hyper)


def correct(approach: Approach, out: Out, batch: Batch) -> Array:
    """How many real examples of the batch are classified right."""
    if approach.correct is not None:
        return approach.correct(out, batch)
    return jnp.sum((jnp.argmax(out.logits, axis=-1) == batch.y) * batch.weight)


def choose(condition: Array, then: Tree, otherwise: Tree) -> Tree:
    """One of two trees of the same shapes; `condition` is a bool[]."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)
