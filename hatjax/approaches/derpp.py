"""DER++: Dark Experience Replay (Buzzega, Boschini, Porrello, Abati and Calderara, NeurIPS 2020).

Kept examples of earlier tasks are to have the logits that they had when their task was learned, and
their true labels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import er
from hatjax.config import ApproachSpec, ranges
from hatjax.training import replay
from hatjax.training.losses import cross_entropy, mean
from hatjax.types import Approach, Array, Network


class Settings(NamedTuple):
    # Those of split CIFAR-10 with a buffer of 200 in the authors' code.
    alpha: float = 0.1  # weight of the logits' squared distance
    beta: float = 0.5  # weight of the labels' cross-entropy
    clip: float = 10000.0  # largest global norm of a gradient


def distance(logits: Array, old: Array) -> Array:
    """The mean over a task's classes of (h_c - z_c)^2, "b C" and "b C" -> "b".

    h are the logits, -inf beyond the classes of the task, and z the old ones, of which only those
    within them are read. The paper writes the sum over the classes; the mean is that of the
    authors' code, whose alpha is the default.
    """
    within = jnp.isfinite(logits)
    off = jnp.where(within, jnp.where(within, logits, 0) - old, 0)
    return jnp.sum(jnp.square(off), axis=-1) / jnp.sum(within, axis=-1)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on cross-entropy + alpha |h(x') - z'|^2 + beta cross-entropy(y'', h(x'')) (eq. 6).

    (x', z') and (x'', y'') are two draws of config.approach.replay kept examples of earlier tasks;
    z' are their logits. memory: that of er.remembering, and "logits" "M C" of the buffer's places,
    0 beyond the classes of a task.

    The paper stores the logits of the step in which an example comes. Here a task ends with its
    best parameters, which may be those of any epoch: the logits are those of these parameters,
    computed from the kept images at the end of the task. Until then its own are not replayed. The
    validation loss is that of the task alone.
    """
    base = er.remembering(config, network)

    def init(key):
        params, memory = base.init(key)
        most = max(network.classes)
        return params, memory | {"logits": jnp.zeros((config.approach.buffer, most))}

    def loss(params, memory, batch, step):
        entropy, out = base.loss(params, memory, batch, step)
        if step.key is None:  # in evaluation
            return entropy, out
        one, other = jax.random.split(jax.random.fold_in(step.key, er.DRAWING))
        old, place = er.drawn(config, memory, step.task, one)
        h = er.answers(network, params | {"stats": out.stats}, old, one)
        dark = mean(distance(h.logits, memory["logits"][place]), old)
        old, _ = er.drawn(config, memory, step.task, other)
        h = er.answers(network, params | {"stats": h.stats}, old, other)
        labels = cross_entropy(h.logits, old)
        own = step.hyper.approach
        return entropy + own.alpha * dark + own.beta * labels, out._replace(stats=h.stats)

    def end_task(params, memory, data, step):
        params, memory = base.end_task(params, memory, data, step)
        own = base.take(params, memory, step)  # all heads, and the norms of all tasks as one

        def logits(x: Array, task: Array) -> Array:
            h = network.apply(own, x, task).logits
            return jnp.where(jnp.isfinite(h), h, 0)

        buffer = memory["buffer"]
        new = replay.each(logits, buffer)  # "M C"
        mine = (buffer.task == step.task)[:, None]
        return params, memory | {"logits": jnp.where(mine, new, memory["logits"])}

    return base._replace(init=init, loss=loss, end_task=end_task)


APPROACH = ApproachSpec(
    make,
    label="DER++",
    settings=Settings(),
    ranges=er.RANGES | {"alpha": ranges.WEIGHT, "beta": ranges.WEIGHT},
    usual={"alpha": (0, 10), "beta": (0, 10)},
    fixed=er.FIELDS,
)
