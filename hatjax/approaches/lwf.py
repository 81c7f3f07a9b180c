"""Learning without Forgetting (Li and Hoiem, ECCV 2016).

While a task is learned, the heads of the earlier tasks are trained to answer on its images as they
did before it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.networks import rows
from hatjax.training.losses import cross_entropy, mean
from hatjax.types import Approach, Array, Network


class Settings(NamedTuple):
    lamb: float = 2.0  # weight of the old heads' distillation
    temperature: float = 1.0  # of the distillation
    clip: float = 100.0  # largest global norm of a gradient


LEAST = 1e-5  # probability that is spread over the classes, so that no logarithm is infinite


def distillation(logits: Array, old: Array, temperature: Array) -> Array:
    """-sum_c r_c log o_c, "... C" logits and old logits -> "..." (the authors' eq. 2-3).

    o and r are the probabilities of `logits` and `old`, each to the power of 1/temperature and
    normalised again. That is the softmax of logits / temperature, which is computed, since it does
    not underflow.
    """
    o, r = jax.nn.softmax(logits / temperature), jax.nn.softmax(old / temperature)
    classes = jnp.sum(jnp.isfinite(logits), axis=-1, keepdims=True)
    o = (o + LEAST / classes) / (1 + LEAST)
    return -jnp.sum(r * jnp.log(o), axis=-1)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + lambda times the sum of the old heads' distillation.

    A batch is an example for all heads, so all tasks share one set of norms (rows.SHARED). Heads of
    tasks that are not learned yet do not move.

    memory: "old", all parameters as the last task left them, and "turn" "T" int32, for each head
    whether its task was learned first (1), second (2) and so on, or not yet (0).
    """
    tasks = jnp.arange(len(network.classes))

    def in_use(memory, step) -> Array:  # "T"
        return ((memory["turn"] > 0) | (tasks == step.task)).astype(jnp.float32)

    base = sgd.make(config, network, sgd.some_heads(in_use))

    def init(key):
        params, _ = base.init(key)
        return params, {
            "old": jax.tree.map(jnp.zeros_like, params),
            "turn": jnp.zeros(len(tasks), jnp.int32),
        }

    def outputs(params, batch, key) -> Array:
        """The logits of all heads, "T b C". The trunk runs once for all of them."""

        def one(task):
            return network.apply(params, batch.x, task, key=key, weight=batch.weight).logits

        return jax.vmap(one)(tasks)

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, step.task, key=step.key, weight=batch.weight)
        old = rows.take(memory["old"], 0, rows.SHARED)  # row 0 is never a fresh one
        terms = distillation(
            outputs(params, batch, step.key),
            outputs(old, batch, None),
            step.hyper.approach.temperature,
        )  # "T b"
        older = (memory["turn"] > 0) & (memory["turn"] <= step.seen)
        per_example = jnp.sum(jnp.where(older[:, None], terms, 0), axis=0)
        distilled = mean(per_example, batch)
        return cross_entropy(out.logits, batch) + step.hyper.approach.lamb * distilled, out

    def end_task(params, memory, data, step):
        params = rows.spread(params, step.task)
        return params, {"old": params, "turn": memory["turn"].at[step.task].set(step.seen + 1)}

    return base._replace(
        init=init,
        begin_task=lambda params, memory, step: (rows.shared_by_all(params, step), memory),
        # The loss reads the heads of all tasks.
        take=lambda params, memory, step: rows.take(params, step.task, rows.SHARED),
        put=lambda params, own, memory, step: rows.put(params, own, step.task, rows.SHARED),
        loss=loss,
        end_task=end_task,
    )


APPROACH = ApproachSpec(
    make,
    label="LwF",
    settings=Settings(),
    ranges={"lamb": ranges.WEIGHT, "temperature": ranges.POSITIVE, "clip": ranges.POSITIVE},
    usual={"lamb": (0, 100), "temperature": (0.1, 20)},
)
