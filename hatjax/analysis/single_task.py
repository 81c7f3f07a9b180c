"""Cut the network that one task uses out of a trained HAT network.

HAT's gates switch whole units off, so one task needs only a narrower network, without gates and
with a single head.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax import networks
from hatjax.analysis import masks
from hatjax.analysis.models import Model, about_task
from hatjax.errors import InputError
from hatjax.networks import rows
from hatjax.protection import on_axis
from hatjax.types import About, Network, Tree


class Small(NamedTuple):
    """The network of one task: no gates, and only the units that the task uses."""

    config: ConfigDict
    task: str  # its name
    network: Network
    params: Tree
    units: dict[str, np.ndarray]  # layer -> indices of its units in the full network
    image: tuple[int, ...]  # h, w, c
    mean: np.ndarray  # "c"
    std: np.ndarray  # "c"
    pixels: np.ndarray | None  # "hwc"
    about: About = About()

    def __repr__(self) -> str:
        units = ", ".join(f"{layer} {len(places)}" for layer, places in self.units.items())
        return f"<Small: the network of task {self.task!r} with the units {units}>"

    def __reduce__(self) -> tuple:
        """For pickle: without its functions, which are made again from the configuration."""
        fields = self._asdict() | {"network": None, "config": configs.to_json(self.config)}
        return _unpickled, (fields, self.network.classes)


def _unpickled(fields: dict[str, Any], classes: tuple[int, ...]) -> Small:
    config = configs.from_json(fields["config"])
    network = networks.make(config, fields["image"], classes)
    return Small(**fields | {"config": config, "network": network})


def cut(model: Model, task: int) -> Small:
    """The small network of `task` (counted from 0, as in models.predict), with the same outputs.

    A unit is removed if its gate at s_max is closed (masks.DEAD) or no remaining unit reads it; a
    layer keeps at least one. The other gates are multiplied into the weights that read the units,
    which is exact for any activation, so outputs differ by rounding only. Raises InputError for an
    unknown or unlearned task, and a model that cannot be cut.
    """
    found, alive = masks.masks(model, task), masks.live(model, task)
    name = model.config.network.name
    if model.params["norms"] or model.params["stats"]:
        raise InputError(f"network {name!r} cannot be cut: it has norms, which see all units")
    layers = list(model.network.units)  # in order; JAX sorts dicts by key
    gates = {layer: np.array(found[layer]) for layer in layers}
    alive = {layer: np.array(alive[layer]) for layer in layers}
    row = model.rows[task]
    classes = model.network.classes[row]
    head = rows.take({"head": model.params["head"]}, row)["head"]
    params = {
        "trunk": model.params["trunk"],
        "head": {"kernel": head["kernel"][..., :classes], "bias": head["bias"][..., :classes]},
    }
    params = jax.tree.map(np.asarray, params)
    # The last axis of a parameter indexes its own units, the axes before it the units it reads. The
    # head reads the last gated layer.
    heads = {"kernel": (None, layers[-1], None), "bias": (None, None)}
    axes = {"trunk": model.network.axes["trunk"], "head": heads}
    units = kept(gates, alive, params, axes)

    def smaller(p: np.ndarray, names: tuple[str | None, ...]) -> np.ndarray:
        for axis, layer in enumerate(names):
            if layer is not None:
                places = np.arange(p.shape[axis]).reshape(-1, len(gates[layer]))
                p = p.take(places[:, units[layer]].ravel(), axis)
                if axis < p.ndim - 1:
                    p = p * np.asarray(on_axis(gates[layer][units[layer]], layer, axis, p.shape))
        return p

    params = jax.tree.map(smaller, params, axes) | {"norms": {}, "stats": {}, "gates": {}}
    config = ungated(model.config, tuple(map(len, units.values())))
    other = InputError(
        f"network {name!r} does not take the units of its gated layers from "
        "config.network.widths, so no smaller one can be made"
    )
    try:
        network = networks.make(config, model.image, (classes,))
    except InputError as error:
        raise other from error
    if shapes(params) != shapes(jax.eval_shape(network.init, jax.random.key(0))):
        raise other
    pixels = None if model.pixels is None else model.pixels[task]
    own = model.names[task], network, params, units, model.image
    unit = model.mean[task], model.std[task], pixels
    return Small(config, *own, *unit, about_task(model, task))


def kept(
    gates: dict[str, np.ndarray], alive: dict[str, np.ndarray], params: Tree, axes: Tree
) -> dict[str, np.ndarray]:
    """The indices of the units to keep, {layer: "kept"}: `alive` ones that a remaining unit reads.

    Layers are ordered from first to last. A layer without any keeps the unit with the largest gate.
    """
    alive = dict(alive)
    pairs = [
        (p, names)
        for part in params
        for p, names in zip(
            jax.tree.leaves(params[part]),
            jax.tree.leaves(axes[part], is_leaf=lambda x: isinstance(x, tuple)),
            strict=True,
        )
    ]

    def read(layer: str) -> np.ndarray:
        """Which units of the layer a remaining unit reads with a nonzero weight, bool "units"."""
        found = np.zeros(len(gates[layer]), bool)
        for p, names in pairs:
            weights = p[..., alive[names[-1]]] if names[-1] else p
            for axis, name in enumerate(names[:-1]):
                if name == layer:
                    rest = tuple(i for i in range(p.ndim) if i != axis)
                    found |= np.any(weights != 0, rest).reshape(-1, len(found)).any(0)
        return found

    for layer in reversed(gates):  # from the last layer to the first
        alive[layer] = alive[layer] & read(layer)
    return {
        layer: np.flatnonzero(a) if a.any() else np.array([np.argmax(gates[layer])])
        for layer, a in alive.items()
    }


def ungated(config: ConfigDict, widths: tuple[int, ...]) -> ConfigDict:
    """The configuration of a plain network of the same kind with other widths."""
    c = config.to_dict()
    c["network"] |= {"widths": widths}
    c["approach"] = {"name": "sgd"} | configs.APPROACHES["sgd"].fields()
    return ConfigDict(c)


def shapes(params: Tree) -> Tree:
    """The shape of every parameter."""
    return jax.tree.map(lambda p: p.shape, params)
