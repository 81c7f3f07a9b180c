"""PathNet (Fernando et al., 2017).

Every layer has many modules, and a task uses a path of a few of them in each. The path is found by
evolution (training.tournament); then its modules are frozen, and later tasks may use them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.approaches import sgd
from hatjax.approaches.sgd_restart import keeping_start, restart
from hatjax.config import ApproachSpec, ranges
from hatjax.errors import InputError
from hatjax.networks import modules, rows
from hatjax.training import tournament
from hatjax.types import Approach, Array, Network, Step, Tree


class Settings(NamedTuple):
    clip: float = 1000.0  # largest global norm of a gradient


def check(config: ConfigDict) -> None:
    """InputError if a path has more modules in a layer than there are."""
    if config.network.active > config.network.modules:
        raise InputError(
            f"config.network.active = {config.network.active}: expected at most "
            f"config.network.modules = {config.network.modules}"
        )


def on_path(trunk: Tree, path: Array) -> Tree:
    """The modules "N ..." of a path "L N" out of {layer: "M ..."}; layers in alphabetical order."""
    return {
        layer: jax.tree.map(lambda p, chosen=chosen: p[chosen], trunk[layer])
        for layer, chosen in zip(sorted(trunk), path, strict=True)
    }


def free(own: Tree, memory: Tree, step: Step) -> Tree:
    """How far the parameters may move: 0 for modules of earlier tasks' paths, 1 for all others."""
    path = memory["paths"][step.task]  # "L N"
    held = jnp.take_along_axis(memory["held"], path, axis=1)  # "L N"
    trunk = {
        layer: jax.tree.map(
            lambda p, h=h: 1 - jnp.expand_dims(h, range(1, p.ndim)), own["trunk"][layer]
        )
        for layer, h in zip(sorted(own["trunk"]), held, strict=True)
    }
    return sgd.everything(own, memory, step) | {"trunk": trunk}


def make(config: ConfigDict, network: Network) -> Approach:
    """SGD on the N modules of a task's path in each of L layers of M (networks.modules).

    memory: "paths" "T L N" int32, the modules of each task's path; while a task learns, those of
    the rival whose turn it is. "held" "L M", 1 for the modules that earlier tasks use, else 0.
    sgd_restart.keeping_start adds to it.
    InputError for another schedule than "plateau".
    """
    base = sgd.make(config, network, free)
    if config.schedule != "plateau":
        raise InputError(
            f"config.schedule = {config.schedule!r}: PathNet's tournament has learning rates of "
            "its own, which fall as under plateau: leave it at plateau"
        )
    tasks, count, active = len(network.classes), config.network.modules, config.network.active

    def init(key):
        params, _ = base.init(key)
        layers = len(params["trunk"])
        return params, {
            "paths": jnp.zeros((tasks, layers, active), jnp.int32),
            "held": jnp.zeros((layers, count)),
        }

    def begin_task(params, memory, step):
        """Modules that no earlier task uses are restarted."""
        fresh, trunk = restart(network, memory, step.key)["trunk"], params["trunk"]

        def renew(p: Array, new: Array, held: Array) -> Array:
            return jnp.where(jnp.expand_dims(held, range(1, p.ndim)) > 0, p, new)

        trunk = {
            layer: jax.tree.map(lambda p, q, h=h: renew(p, q, h), trunk[layer], fresh[layer])
            for layer, h in zip(sorted(trunk), memory["held"], strict=True)
        }
        return params | {"trunk": trunk}, memory

    def take(params, memory, step):
        path = memory["paths"][step.task]
        return rows.take(params, step.task) | {"trunk": on_path(params["trunk"], path)}

    def put(params, own, memory, step):
        trunk = {
            layer: jax.tree.map(
                lambda p, q, chosen=chosen: p.at[chosen].set(q),
                params["trunk"][layer],
                own["trunk"][layer],
            )
            for layer, chosen in zip(sorted(own["trunk"]), memory["paths"][step.task], strict=True)
        }
        return rows.put(params, own, step.task) | {"trunk": trunk}

    def end_task(params, memory, data, step):
        path = memory["paths"][step.task]
        used = jax.vmap(lambda held, chosen: held.at[chosen].set(1))(memory["held"], path)
        return params, memory | {"held": used}

    def predict(params, memory, x, task, hyper):
        own = {"trunk": on_path(params["trunk"], memory["paths"][task])}
        return network.apply(rows.take(params, task) | own, x, task).logits

    return base._replace(
        init=keeping_start(config, init),
        begin_task=begin_task,
        take=take,
        put=put,
        schedule=tournament.make(config),
        restarts=lambda before, after, step: jnp.any(before["paths"] != after["paths"]),
        end_task=end_task,
        predict=predict,
    )


APPROACH = ApproachSpec(
    make,
    label="PathNet",
    settings=Settings(),
    ranges={
        "clip": ranges.POSITIVE,
        "rivals": ranges.SMALL_COUNT,
        "generations": ranges.COUNT,
        "network.expand": ranges.EXPAND,
        "network.modules": ranges.SMALL_COUNT,
        "network.active": ranges.SMALL_COUNT,
    },
    fixed=dict(
        rivals=2,  # paths of a generation
        generations=20,
    ),
    network=dict(
        expand=0.258,  # a module is so many times as wide as the network's layer
        modules=16,  # in each layer
        active=3,  # of them on a path
    ),
    epochs=2,  # times the others': each of the published code's two rivals trains for as many
    structure=modules.make,
    check=check,
)
