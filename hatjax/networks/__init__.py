"""Networks: Flax modules inside, pure functions outside. No other package imports Flax.

To add one, write a function like mlp.make, or a module like trunk.Trunk (images and gates in,
features out, the property `units`), and list it in TRUNKS.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import keystr
from ml_collections import ConfigDict

from hatjax import limits
from hatjax.errors import InputError, unknown
from hatjax.networks import alexnet, columns, mlp, modules
from hatjax.networks.gates import GRADIENT, INIT, Gates
from hatjax.networks.head import Head
from hatjax.networks.layers import Gated, affine_squares
from hatjax.networks.trunk import Trunk
from hatjax.types import Array, Network, Out, Tree

# Kind of network -> a module that maps (images, gates) to features.
TRUNKS: dict[str, Callable[[ConfigDict, tuple[int, ...]], nn.Module]] = {
    "mlp": mlp.make,
    "alexnet": alexnet.make,
}
# Approaches that need the stages of a network otherwise than one after the other.
STRUCTURES = {"progressive": columns.make, "pathnet": modules.make}


class Model(nn.Module):
    """Gates, trunk and heads of a network for `tasks` tasks."""

    trunk: nn.Module
    head: nn.Module
    gates: nn.Module | None

    def __call__(self, x: Array, task: Array, s: Array | None) -> Out:
        a = {} if self.gates is None else self.gates(task, s)
        z = self.trunk(x, a)
        return Out(self.head(z, task), z, a)


def make(config: ConfigDict, image: tuple[int, ...], classes: tuple[int, ...]) -> Network:
    """The network of `config` for images "h w c" and tasks of so many classes each.

    It is gated if the approach is (config.approach.gated), and structured as the approach needs it.
    Raises InputError for a config.network.name that is unknown or cannot be structured so, and for
    parameters that the machine's memory does not hold, before there are any; and TypeError, naming
    it, for a trunk parameter that does not say which gates lie on its axes: it would be trained
    unprotected.
    """
    network = _make(config, image, classes)
    fits(network)
    return network


def fits(network: Network, times: int = 1) -> None:
    """Raise InputError if the machine's memory does not hold the parameters so many times."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    numbers = sum(p.size for p in jax.tree.leaves(shapes))
    limits.fits(
        4 * times * numbers,
        f"a network of {numbers:,} parameters" + (f", {times} times in training," * (times > 1)),
        "make it smaller by --config.network.widths, or learn fewer tasks",
    )


def _make(config: ConfigDict, image: tuple[int, ...], classes: tuple[int, ...]) -> Network:
    if config.network.name not in TRUNKS:
        raise unknown("network", config.network.name, TRUNKS)
    trunk = TRUNKS[config.network.name](config.network, image)
    if config.approach.name in STRUCTURES:
        if not isinstance(trunk, Trunk):
            raise InputError(
                f"approach {config.approach.name!r} builds its own network from stages "
                f"(hatjax.networks.trunk), and network {config.network.name!r} has none: use "
                "--config.network.name=mlp or alexnet"
            )
        return STRUCTURES[config.approach.name](config, trunk, image, classes)
    return wrap(
        trunk,
        image,
        classes,
        gated=config.approach.get("gated", False),
        gate_init=config.approach.get("gate_init", "normal"),
        fidelity=config.fidelity,
    )


def wrap(
    trunk: nn.Module,
    image: tuple[int, ...],
    classes: tuple[int, ...],
    gated: bool,
    gate_init: str = "normal",
    fidelity: str = "paper",
) -> Network:
    """A Network around any trunk: a module with `units` that maps (x, gates) to features "b d"."""

    def gates(tasks: int) -> Gates:
        return Gates(trunk.units, tasks, INIT[gate_init], GRADIENT[fidelity])

    def model(tasks: int, trunk: nn.Module = trunk) -> Model:
        return Model(trunk, Head(classes, tasks), gates(tasks) if gated else None)

    def boxed(key: Array) -> Tree:
        x = jnp.zeros((1, *image))
        return {"gates": {}} | model(len(classes)).init(key, x, 0, jnp.float32(1))["params"]

    def init(key: Array) -> Tree:
        return nn.meta.unbox(boxed(key))

    def apply(
        params: Tree, x: Array, task: Array, s: Array | None = None, key: Array | None = None
    ) -> Out:
        streams = {} if key is None else {"dropout": key}
        tasks = len(params["head"]["bias"])
        return model(tasks).apply({"params": params}, x, task, s, rngs=streams)

    def squares(params: Tree, x: Array, task: Array) -> Out:
        squaring = trunk.clone(affine=affine_squares)
        return model(len(params["head"]["bias"]), squaring).apply({"params": params}, x, task, None)

    def apply_gates(params: Tree, task: Array, s: Array) -> dict[str, Array]:
        tasks = len(params["head"]["bias"])
        return gates(tasks).apply({"params": params["gates"]}, task, s)

    trunk_shapes = jax.eval_shape(boxed, jax.random.key(0))["trunk"]
    axes = declared_axes(trunk_shapes, trunk.units)
    return Network(
        init=init,
        apply=apply,
        gates=apply_gates,
        axes=axes,
        units=trunk.units if gated else {},
        classes=classes,
        squares=squares if isinstance(trunk, Trunk) and not gated else None,
    )


def count(network: Network) -> dict[str, int]:
    """The number of parameters of each part; what pads heads to the most classes is not counted."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    d, total = shapes["head"]["kernel"].shape[1], len(network.classes)
    return {
        "trunk": sum(p.size for p in jax.tree.leaves(shapes["trunk"])) - network.unused,
        "gates": total * sum(network.units.values()),
        "heads": (d + 1) * sum(network.classes),
    }


def declared_axes(boxed: Tree, units: dict[str, int]) -> Tree:
    """The gate names on the axes of every trunk parameter; TypeError names the first without."""

    def read(path, leaf) -> tuple[str | None, ...]:
        if not isinstance(leaf, Gated):
            raise TypeError(
                f"trunk parameter {keystr(path)} does not declare its gates, so HAT could not "
                "protect it: create it with hatjax.networks.layers.gated(init, *axes)"
            )
        shape = leaf.value.shape
        if len(leaf.axes) != len(shape) or not any(leaf.axes):
            raise TypeError(
                f"trunk parameter {keystr(path)} of shape {shape} declares the gates {leaf.axes}: "
                "expected one name or None for each axis, and at least one name"
            )
        for size, gate in zip(shape, leaf.axes, strict=True):
            if gate is not None and (gate not in units or size % units[gate]):
                raise TypeError(
                    f"trunk parameter {keystr(path)} of shape {shape} declares the gate {gate!r}, "
                    f"which does not fit an axis of {size}; gated layers: {units}"
                )
        return leaf.axes

    return jax.tree_util.tree_map_with_path(read, boxed, is_leaf=lambda x: isinstance(x, Gated))
