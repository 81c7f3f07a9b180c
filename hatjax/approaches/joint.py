"""Joint training: fresh parameters, trained on all the tasks so far at once. The upper bound.

A_J of the forgetting ratio (eq. 6).
"""

import jax
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.networks import rows
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Network

COMMON = ("norms", "stats")  # of all tasks, in the row of the last, since batches mix the tasks


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the union of the tasks; every example is classified by the head of its own task."""

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, batch.task, key=step.key, weight=batch.weight)
        return cross_entropy(out.logits, batch), out

    def end_task(params, memory, data, step):
        """All tasks get the common norms."""
        own = rows.take(params, step.task, COMMON)
        every = {
            k: jax.tree.map(lambda p, q: p.at[:].set(q), params[k], own[k]) for k in COMMON
        }
        return params | every, memory

    return sgd.make(config, network)._replace(
        begin_task=lambda params, memory, step: (network.init(step.key), memory),
        take=lambda params, memory, step: rows.take(params, step.task, COMMON),
        put=lambda params, own, memory, step: rows.put(params, own, step.task, COMMON),
        loss=loss,
        end_task=end_task,
        union=True,
    )


APPROACH = ApproachSpec(make, label="Joint", settings=sgd.Settings(), ranges=sgd.RANGES)
