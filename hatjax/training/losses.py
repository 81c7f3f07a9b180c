"""Losses over a batch whose last examples may only pad it."""

import jax.numpy as jnp
import optax

from hatjax.types import Array, Batch


def mean(values: Array, batch: Batch) -> Array:
    """The mean of "b" over the real examples of a batch; 0 where there is none."""
    count = jnp.maximum(jnp.sum(batch.weight), 1)
    return jnp.sum(jnp.where(batch.weight > 0, values, 0)) / count


def cross_entropy(logits: Array, batch: Batch) -> Array:
    """Mean cross-entropy of logits "b C" (-inf where a task has no such class)."""
    return mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y), batch)
