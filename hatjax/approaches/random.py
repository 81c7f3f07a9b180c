"""Guessing: each label with the probability that it has in the training data of the task.

Its accuracy is the lower bound that the others are compared with: A_R in the forgetting ratio
(eq. 6). It is computed as an expectation; no label is drawn.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.fidelity import departures
from hatjax.types import Approach, Array, Batch, Network, Out


def frequencies(y: Array, n: Array, classes: int) -> Array:
    """The share of each class, "C", among the first n of the labels y "N"."""
    real = (jnp.arange(len(y)) < n).astype(jnp.float32)
    return jnp.zeros(classes).at[y].add(real) / n


def expected(out: Out, batch: Batch) -> Array:
    """How many guesses of the batch are right on average, with the softmax of the logits as the
    probabilities of the guesses."""
    guess = jax.nn.softmax(out.logits)  # "b C"
    return jnp.sum(jnp.take_along_axis(guess, batch.y[:, None], axis=1)[:, 0] * batch.weight)


def make(config: ConfigDict, network: Network) -> Approach:
    """It has no parameters, and there is nothing to train.

    memory: "frequencies" "T C", the share of each class in the training labels of each task. The
    published code guesses for every task with those of the last one (hatjax.fidelity).
    """
    own = departures(config).own_frequencies
    tasks, most = len(network.classes), max(network.classes)

    def predict(params, memory, x, task, hyper):
        return jnp.broadcast_to(jnp.log(memory["frequencies"][task])[None], (len(x), most))

    def loss(params, memory, batch, step):
        logits = predict(params, memory, batch.x, step.task, step.hyper)
        return jnp.float32(0), Out(logits, logits, {}, {})

    def end_task(params, memory, data, step):
        learned = (jnp.arange(tasks) == step.task) | (not own)
        f = frequencies(data.y[data.version], data.n, most)
        return params, {"frequencies": jnp.where(learned[:, None], f[None], memory["frequencies"])}

    return sgd.make(config, network)._replace(
        init=lambda key: (
            {"trunk": {}, "norms": {}, "stats": {}, "gates": {}, "head": {}},
            {"frequencies": jnp.zeros((tasks, most))},
        ),
        loss=loss,
        end_task=end_task,
        optimizer=lambda memory, step: optax.identity(),
        predict=predict,
        correct=expected,
        trained=False,
    )


APPROACH = ApproachSpec(make, label="Random")
