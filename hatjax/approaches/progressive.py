"""Progressive neural networks (Rusu et al., 2016).

Each task gets a column of its own, which also reads the columns of the tasks before. Those are
frozen, so nothing is forgotten; the network grows with the tasks.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec, ranges
from hatjax.networks import columns, rows
from hatjax.training.losses import cross_entropy
from hatjax.types import Approach, Network


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the task's own column; the k-th task to be learned gets column k (networks.columns).

    memory: "old", all columns "T ..." as the tasks before left them, and "column" "T" int32, the
    column of each task.
    """
    base = sgd.make(config, network)

    def init(key):
        params, _ = base.init(key)
        return params, {
            "old": jax.tree.map(jnp.zeros_like, params["trunk"]),
            "column": jnp.zeros(len(network.classes), jnp.int32),
        }

    def begin_task(params, memory, step):
        return params, memory | {"column": memory["column"].at[step.task].set(step.seen)}

    def take(params, memory, step):
        column = jax.tree.map(lambda p: rows.pick(p, step.seen), params["trunk"])
        return rows.take(params, step.task) | {"trunk": column}

    def put(params, own, memory, step):
        trunk = jax.tree.map(lambda p, q: p.at[step.seen].set(q), params["trunk"], own["trunk"])
        return rows.put(params, own, step.task) | {"trunk": trunk}

    def loss(params, memory, batch, step):
        given = params | {"old": memory["old"], "column": step.seen}
        out = network.apply(given, batch.x, step.task, key=step.key)
        return cross_entropy(out.logits, batch), out

    def end_task(params, memory, data, step):
        return params, memory | {"old": params["trunk"]}

    def predict(params, memory, x, task, hyper):
        column = memory["column"][task]
        own = jax.tree.map(lambda p: rows.pick(p, column), params["trunk"])
        given = {"trunk": own, "old": memory["old"], "column": column}
        return network.apply(rows.take(params, task) | given, x, task).logits

    return base._replace(
        init=init,
        begin_task=begin_task,
        take=take,
        put=put,
        loss=loss,
        end_task=end_task,
        predict=predict,
    )


APPROACH = ApproachSpec(
    make,
    label="PNN",
    settings=sgd.Settings(),
    ranges=sgd.RANGES | {"network.expand": ranges.EXPAND},
    network=dict(expand=1.117),  # a column is expand / tasks times as wide as the network
    structure=columns.make,
)
