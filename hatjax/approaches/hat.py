"""Hard Attention to the Task (Serra, Suris, Miron and Karatzoglou, ICML 2018).

Every unit's output is multiplied by a gate a = sigmoid(s e), e learned for each task. Weights
between units that earlier tasks use get no gradient, and a regulariser keeps the use of free units
low.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from hatjax import transforms
from hatjax.approaches import sgd
from hatjax.types import Approach, Array, Network


def sparsity(gates: dict[str, Array], past: dict[str, Array], fidelity: str = "paper") -> Array:
    """R = sum a^t (1 - a^{<t}) / sum (1 - a^{<t}) over the units of all layers (eq. 5).

    The share of the free units that the task takes. 0 when no unit is free; the published code
    divides 0 by 0 there.
    """
    free = {layer: 1 - a for layer, a in past.items()}
    used = sum(jnp.sum(gates[layer] * free[layer]) for layer in free)
    total = sum(jnp.sum(f) for f in free.values())
    if fidelity == "code":
        return used / total
    return used / jnp.where(total > 0, total, 1)


def make(config: ConfigDict, network: Network) -> Approach:
    """HAT on a gated network. memory["past"] is the cumulative gates a^{<=t}, {layer: "units"}."""

    def init(key):
        past = {layer: jnp.zeros(units) for layer, units in network.units.items()}
        return network.init(key), {"past": past}

    def begin_task(params, memory, step):
        # Keep the other tasks' embeddings in range too; this task's are kept after each step.
        def keep(e: Array) -> Array:  # "T units"
            bound = step.hyper["e_max"]
            mine = (jnp.arange(len(e)) == step.task)[:, None]
            return jnp.where(mine, e, jnp.clip(e, -bound, bound))

        return params | {"gates": jax.tree.map(keep, params["gates"])}, memory

    def loss(params, memory, batch, step):
        s = transforms.anneal(step.progress, step.hyper["s_max"])
        out = network.apply(params, batch.x, step.task, s, step.key)
        r = sparsity(out.gates, memory["past"], config.fidelity)
        return sgd.cross_entropy(out.logits, batch) + step.hyper["c"] * r, out  # eq. 4

    def end_task(params, memory, data, step):
        gates = network.gates(params, step.task, step.hyper["s_max"])
        return params, {"past": jax.tree.map(jnp.maximum, memory["past"], gates)}

    def predict(params, memory, x, task, hyper):
        return network.apply(params, x, task, hyper["s_max"]).logits

    def report(params, memory, step):
        gates = network.gates(params, step.task, step.hyper["s_max"])
        used = jax.tree.map(lambda a, past: jnp.maximum(a, past).mean(), gates, memory["past"])
        kept = transforms.held(gates, params["trunk"], network.axes)[1]
        return {"kept": kept} | {f"used_{layer}": share for layer, share in used.items()}

    transform = optax.chain(
        transforms.clip(transforms.protect(network.axes), transforms.compensate()),
        transforms.descend(),
        transforms.keep_embeddings(),
    )
    return sgd.make(config, network)._replace(
        init=init,
        begin_task=begin_task,
        loss=loss,
        transform=transform,
        end_task=end_task,
        predict=predict,
        report=report,
    )
