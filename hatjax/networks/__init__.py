"""Networks: Flax modules inside, pure functions outside. No other package imports Flax.

A network is a Flax module with two properties, that maps images and gates to features:

    units           {gate: how many units it closes}
    rules           {regular expression: the gates on a parameter's axes} (hatjax.axes)
    __call__(x, gates) or (x, gates, train)     images "b h w c" -> features "b d"

To add one, put its file into hatjax/networks/architectures, or call `register`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from hatjax import hat, protection
from hatjax.config import APPROACHES, NETWORKS, NetworkSpec
from hatjax.data import memory
from hatjax.errors import InputError, oneline, unknown
from hatjax.networks import head, rows
from hatjax.networks.checks import check_training as check_training
from hatjax.networks.checks import probe as probe
from hatjax.networks.layers import affine_magnitudes, affine_squares, convolution, real_examples
from hatjax.networks.precision import at_precision
from hatjax.networks.stages import kept_whole
from hatjax.networks.trunk import Trunk
from hatjax.protection import PER_TASK
from hatjax.types import Array, Network, Out, Tree

Make = Callable[[ConfigDict, tuple[int, ...]], nn.Module]

OURS = NETWORKS.ours  # the names of those that come with hatjax

SIGMOIDS: dict[str, Callable] = {"usual": jax.nn.sigmoid, "exact": hat.exact_sigmoid}  # derivative


def register(name: str, make: Make, **fields: Any) -> None:
    """Make a network of your own known as config.network.name = `name`.

    make(config.network, image) gives a Flax module for images "h w c", with `units`, `rules` (as
    hatjax.axes takes them) and __call__(x, gates[, train]) -> features "b d"; `fields` are its
    fields in config.network and their defaults. Register it in every process that begins or
    continues a run with it or loads its model, before that. InputError for the name of a network of
    hatjax/networks/architectures.
    """
    if name in NETWORKS.files:
        raise InputError(f"there is a network {name!r} already: register yours by another name")
    NETWORKS[name] = NetworkSpec(make, fields)


def make(
    config: ConfigDict, image: tuple[int, ...], classes: tuple[int, ...], replicas: int = 1
) -> Network:
    """The network of `config` for images "h w c" and tasks of so many classes each.

    Its units have gates if config.approach.gated; an approach with a `structure` of its own gets
    that, built from the network's stages. `replicas` is how many runs train in one program with it
    (layers.convolution). Raises InputError for a config.network.name that is
    unknown or has no stages where they are needed, for a network whose rules do not cover its
    parameters, and for parameters that the machine's memory does not hold, before they are made.
    """
    config = config.copy_and_resolve_references()
    if "conv" in config.network and config.network.name in OURS:
        config.network.conv = convolution(config.network.conv, replicas)
    network = _make(config, image, classes)
    if config.precision != "default":
        precise = functools.partial(at_precision, config.precision)
        network = network._replace(
            apply=precise(network.apply),
            squares=network.squares and precise(network.squares),
            magnitudes=network.magnitudes and precise(network.magnitudes),
            undropped=network.undropped and precise(network.undropped),
        )
    check_memory(network)
    return network


def check_memory(network: Network, times: int = 1) -> None:
    """Raise InputError if the machine's memory does not hold the parameters so many times."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    numbers = sum(p.size for p in jax.tree.leaves(shapes))
    memory.fits(
        4 * times * numbers,
        f"a network of {numbers:,} parameters" + (f", {times} times in training," * (times > 1)),
        "make it smaller by --config.network.widths, or learn fewer tasks",
    )


def _make(config: ConfigDict, image: tuple[int, ...], classes: tuple[int, ...]) -> Network:
    name = config.network.name
    if name not in NETWORKS:
        known = unknown("network", name, NETWORKS)
        raise InputError(f"{known} One of your own: hatjax.networks.register it first.")
    trunk = NETWORKS[name].make(config.network, image)
    structure = APPROACHES[config.approach.name].structure
    if structure is not None:
        if not isinstance(trunk, Trunk):
            raise InputError(
                f"approach {config.approach.name!r} builds its own network from stages "
                f"(hatjax.networks.trunk), and network {name!r} has none: use "
                "--config.network.name=mlp or alexnet"
            )
        return structure(config, trunk, image, classes)
    try:
        return wrap(
            trunk,
            image,
            classes,
            gated=config.approach.get("gated", False),
            gate_init=config.approach.get("gate_init", "normal"),
            sigmoid=SIGMOIDS[config.approach.get("derivative", "usual")],
        )
    except ValueError as error:
        raise InputError(f"network {name!r}: {error}") from error


def wrap(
    trunk: nn.Module,
    image: tuple[int, ...],
    classes: tuple[int, ...],
    gated: bool,
    gate_init: str = "normal",
    sigmoid: Callable[[Array], Array] = jax.nn.sigmoid,
) -> Network:
    """A Network for tasks of so many `classes` around any module with `units` and `rules`.

    The module holds one copy of its PER_TASK parameters and of its running statistics, the Network
    one for every task, "T ...". Raises ValueError as hatjax.axes and protection.check do.
    """
    if isinstance(trunk, type):
        name = trunk.__name__
        raise ValueError(f"{name} is a class: give a module made from it, as {name}()")
    tasks, units = len(classes), dict(getattr(trunk, "units", {}))
    rules = getattr(trunk, "rules", None)
    if rules is None or not units:
        raise ValueError(
            f"the module {type(trunk).__name__} has no "
            f"{'units, {gate: how many it closes}' if not units else 'rules, as hatjax.axes takes'}"
        )

    for gate, n in units.items():
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"its units have {gate!r}: {n!r}: expected how many, from 1 on")

    def open_gates() -> dict[str, Array]:
        """The gates of a network without gates: ones, which the compiler removes."""
        return {name: jnp.ones(n) for name, n in units.items()}

    takes_train = "train" in inspect.signature(type(trunk).__call__).parameters

    def call(trunk: nn.Module, variables: Tree, x: Array, a: dict, train: bool, **how) -> Any:
        more: dict[str, Any] = {"train": train} if takes_train else {}
        return trunk.apply(variables, x, a, **more, **how)

    def variables(key: Array) -> Tree:
        more: dict[str, Any] = {"train": False} if takes_train else {}
        return nn.meta.unbox(trunk.init(key, jnp.zeros((1, *image)), open_gates(), **more))

    shapes = _shapes(variables, units, jax.random.key(0))
    if strange := shapes.keys() - {"params", "batch_stats"}:
        raise ValueError(
            f"it has variables of the kind {min(strange)!r}: expected parameters and batch_stats"
        )
    for path, p in flatten_dict(shapes["params"], sep="/").items():
        if not jnp.issubdtype(p.dtype, jnp.inexact):
            raise ValueError(f"parameter {path} is {p.dtype}: expected numbers that can be trained")
    axes = protection.axes(shapes["params"], rules)
    features = _shapes(
        lambda v: call(trunk, v, jnp.zeros((1, *image)), open_gates(), False), units, shapes
    )
    if not isinstance(features, jax.ShapeDtypeStruct):
        raise ValueError(f"it gives a {type(features).__name__}: expected features [examples, d]")
    if features.ndim != 2:
        raise ValueError(f"its features are of shape {features.shape}: expected [examples, d]")
    d = features.shape[1]

    def init(key: Array) -> Tree:
        for_trunk, for_gates, for_head = jax.random.split(key, 3)
        start = variables(for_trunk)
        shared, own = split(start["params"], axes)
        return {
            "trunk": shared,
            "norms": jax.tree.map(repeated, own),
            "stats": jax.tree.map(repeated, start.get("batch_stats", {})),
            "gates": hat.init_gates(for_gates, units, tasks, gate_init) if gated else {},
            "head": head.start(for_head, d, classes),
        }

    def repeated(p: Array) -> Array:
        return jnp.repeat(p[None], tasks, axis=0)

    def apply(
        params: Tree,
        x: Array,
        task: Array,
        s: Array | None = None,
        key: Array | None = None,
        weight: Array | None = None,
        trunk: nn.Module = trunk,
    ) -> Out:
        a = apply_gates(params, task, s) if gated else open_gates()
        norms, stats = (
            jax.tree.map(lambda p: rows.pick(p, task), params[k]) for k in ("norms", "stats")
        )
        both = {"params": merge(params["trunk"], norms)} | ({"batch_stats": stats} if stats else {})
        if key is None:
            z, new = call(trunk, both, x, a, False), params["stats"]
        else:
            how = {"rngs": {"dropout": key}, "mutable": ["batch_stats"]}
            with real_examples(jnp.ones(len(x)) if weight is None else weight):
                z, changed = call(trunk, both, x, a, True, **how)
            new = jax.tree.map(
                lambda table, row: rows.place(table, row, task),
                params["stats"],
                changed.get("batch_stats", {}),
            )
        return Out(head.logits(params, z, task, classes), z, a if gated else {}, new)

    def apply_gates(params: Tree, task: Array, s: Array) -> dict[str, Array]:
        return hat.gate(params["gates"], task, s, sigmoid) if gated else {}

    shared, own = split(axes, axes)
    heads = head.shapes(d, classes)
    every = {"trunk": shared, "norms": own, "head": jax.tree.map(lambda _: PER_TASK, heads)}
    if gated:
        protection.check(
            {"trunk": split(shapes["params"], axes)[0]},
            {"trunk": shared},
            {name: jax.ShapeDtypeStruct((tasks, n), float) for name, n in units.items()},
        )
    squares = magnitudes = undropped = None
    if isinstance(trunk, Trunk):
        undropped = functools.partial(apply, trunk=trunk.clone(stages=kept_whole(trunk.stages)))
    if isinstance(trunk, Trunk) and not gated:
        squares, magnitudes = (
            functools.partial(apply, trunk=trunk.clone(affine=form))
            for form in (affine_squares, affine_magnitudes)
        )
    return Network(
        init=init,
        apply=apply,
        gates=apply_gates,
        axes=every,
        units=units if gated else {},
        classes=classes,
        squares=squares,
        magnitudes=magnitudes,
        undropped=undropped,
        image=image,
    )


def _shapes(function: Callable, units: Mapping[str, int], *args: Any) -> Any:
    """jax.eval_shape of a call of a module; ValueError, with what is expected, if that fails."""
    try:
        return jax.eval_shape(function, *args)
    except (InputError, ValueError):
        raise
    except Exception as error:  # whatever a module does
        raise ValueError(
            f"its __call__ fails ({type(error).__name__}: {oneline(error)}): expected "
            f"__call__(x, gates) or __call__(x, gates, train), with the gates {', '.join(units)}"
        ) from error


def split(params: Tree, axes: Tree) -> tuple[Tree, Tree]:
    """A nested dict of parameters as those that tasks share, and those that are PER_TASK."""
    rules, flat = flatten_dict(axes), flatten_dict(params)
    return (
        unflatten_dict({k: p for k, p in flat.items() if rules[k] != PER_TASK}),
        unflatten_dict({k: p for k, p in flat.items() if rules[k] == PER_TASK}),
    )


def merge(shared: Tree, own: Mapping) -> Tree:
    """The inverse of split."""
    return unflatten_dict(flatten_dict(shared) | flatten_dict(own)) if own else shared


def count(network: Network) -> dict[str, int]:
    """The number of parameters of each part; what pads heads to the most classes is not counted."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    d, total = shapes["head"]["kernel"].shape[1], len(network.classes)
    norms = sum(p.size for p in jax.tree.leaves(shapes["norms"]))
    return {
        "trunk": sum(p.size for p in jax.tree.leaves(shapes["trunk"])) - network.unused,
        "gates": total * sum(network.units.values()),
        **({"norms": norms} if norms else {}),
        "heads": (d + 1) * sum(network.classes),
    }
