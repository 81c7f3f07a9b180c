"""Joint training: fresh parameters, trained on all the tasks so far at once. The upper bound.

A_J of the forgetting ratio (eq. 6).
"""

from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.types import Approach, Network


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the union of the tasks; every example is classified by the head of its own task."""

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, batch.task, key=step.key)
        return sgd.cross_entropy(out.logits, batch), out

    return sgd.make(config, network)._replace(
        begin_task=lambda params, memory, step: (network.init(step.key), memory),
        loss=loss,
        union=True,
        **sgd.WHOLE,
    )
