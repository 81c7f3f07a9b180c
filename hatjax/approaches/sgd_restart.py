"""SGD from fresh parameters on every task: nothing is carried over, and nothing is kept."""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.config import ApproachSpec
from hatjax.fidelity import departures
from hatjax.types import Approach, Array, Network, Tree

Init = Callable[[Array], tuple[Tree, Tree]]  # key -> params, memory


def keeping_start(config: ConfigDict, init: Init) -> Init:
    """`init` of an approach that calls `restart`.

    In the published code all tasks restart from a copy of the very first parameters
    (hatjax.fidelity). The memory then also has "start", the key of these, uint32 "2".
    """
    if departures(config).fresh_restarts:
        return init

    def kept(key):
        params, memory = init(key)
        return params, memory | {"start": jax.random.key_data(key)}

    return kept


def restart(network: Network, memory: Tree, key: Array) -> Tree:
    """Parameters to restart from: drawn with `key`, or as at the very first (`keeping_start`)."""
    if "start" in memory:
        key = jax.random.wrap_key_data(memory["start"], impl=jax.random.key_impl(key))
    return network.init(key)


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD, with all parameters restarted before each task. Memory: none, or `keeping_start`'s."""
    base = sgd.make(config, network)
    return base._replace(
        init=keeping_start(config, base.init),
        begin_task=lambda params, memory, step: (restart(network, memory, step.key), memory),
    )


APPROACH = ApproachSpec(make, label="SGD-R", settings=sgd.Settings(), ranges=sgd.RANGES)
