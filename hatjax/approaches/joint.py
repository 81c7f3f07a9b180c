"""Joint training: for each task, fresh parameters are trained on all the tasks so far at once.

Nothing can be forgotten, so its accuracy is the upper bound that the others are compared with: A_J
in the forgetting ratio (eq. 6).
"""

from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.approaches.sgd_restart import keeping_start, restart
from hatjax.config import ApproachSpec
from hatjax.networks import rows
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Network


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the union of the tasks; each example goes to the head of its own task.

    A batch mixes examples of several tasks, so all tasks share one set of norms (rows.SHARED).
    Memory: none, or that of sgd_restart.keeping_start.
    """
    base = sgd.make(config, network)

    def loss(params, memory, batch, step):
        out = network.apply(params, batch.x, batch.task, key=step.key, weight=batch.weight)
        return cross_entropy(out.logits, batch), out

    def end_task(params, memory, data, step):
        return rows.spread(params, step.task), memory

    return base._replace(
        init=keeping_start(config, base.init),
        begin_task=lambda params, memory, step: (restart(network, memory, step.key), memory),
        take=lambda params, memory, step: rows.take(params, step.task, rows.SHARED),
        put=lambda params, own, memory, step: rows.put(params, own, step.task, rows.SHARED),
        loss=loss,
        end_task=end_task,
        union=True,
    )


APPROACH = ApproachSpec(make, label="Joint", settings=sgd.Settings(), ranges=sgd.RANGES)
