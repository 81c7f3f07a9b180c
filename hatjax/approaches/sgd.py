"""Plain SGD, task after task: the baseline that forgets, and the base of the other approaches."""

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax import plateau, transforms
from hatjax.networks import rows
from hatjax.types import Approach, Array, Batch, Network

# For an approach whose loss reads the heads of all tasks.
WHOLE = dict(
    take=lambda params, memory, step: params,
    put=lambda params, own, memory, step: own,
)


def mean(values: Array, batch: Batch) -> Array:
    """The mean of "b" over the real examples of a batch."""
    return jnp.sum(jnp.where(batch.weight > 0, values, 0)) / jnp.sum(batch.weight)


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Mean cross-entropy of logits "b C" (-inf where a task has no such class)."""
    return mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y), batch)


def make(config: ConfigDict, network: Network) -> Approach:
    """The cross-entropy of the task's own head, a clipped gradient, and no memory."""

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, step.task, key=step.key)
        return cross_entropy(out.logits, batch), out

    return Approach(
        init=lambda key: (network.init(key), {}),
        begin_task=lambda params, memory, step: (params, memory),
        take=lambda params, memory, step: rows.take(params, step.task),
        put=lambda params, own, memory, step: rows.put(params, own, step.task),
        loss=loss,
        transform=optax.chain(transforms.clip(), transforms.descend()),
        schedule=plateau.make(config),
        end_task=lambda params, memory, data, step: (params, memory),
        predict=lambda params, memory, x, task, hyper: network.apply(params, x, task).logits,
    )
