"""What is checked of a network of one's own before it is trained."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from hatjax import protection
from hatjax.errors import InputError, oneline
from hatjax.types import Array, Network, Tree


def check_training(network: Network, image: tuple[int, ...]) -> None:
    """Raise InputError for a module of one's own that cannot be trained, before anything is.

    Its training call is traced, not computed.
    """
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)

    def train(params: Tree, x: Array, key: Array) -> Array:
        return network.apply(params, x, 0, jnp.float32(1), key=key).features

    try:
        jax.eval_shape(train, shapes, x, jax.random.key(0))
    except Exception as error:  # whatever a module does
        raise InputError(
            f"the network cannot be trained ({type(error).__name__}: {oneline(error)}): its module "
            'is given the random numbers "dropout", may change "batch_stats", and takes `train`, '
            "if it needs to know: __call__(x, gates, train)"
        ) from error


def probe(network: Network, image: tuple[int, ...]) -> None:
    """Raise InputError if closed units of a gated network show in its outputs.

    A later task would then change what earlier ones have learned; see hatjax.protection.probe.
    """
    rng = np.random.default_rng(0)

    def drawn(p: jax.ShapeDtypeStruct) -> np.ndarray:  # network.init would have to be compiled
        scale = np.sqrt(2 / max(1, p.size / p.shape[-1]))
        return (scale * rng.standard_normal(p.shape)).astype(p.dtype)

    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = {part: jax.tree.map(drawn, shapes[part]) for part in network.axes}
    stats = jax.tree.map(lambda p: np.ones(p.shape, p.dtype), shapes["stats"])
    # Many images, and far ones: something like the k largest units shows only for some of them.
    count = max(8, min(64, 2**18 // math.prod(image)))
    x = rng.uniform(-3, 3, (count, *image)).astype(np.float32)

    def outputs(net: Tree, a: dict[str, Array]) -> Array:
        # A single row of embeddings, far enough out that gates are exactly 0 or 1.
        e = {gate: jnp.where(open > 0, 200.0, -200.0)[None] for gate, open in a.items()}
        return network.apply(net | {"stats": stats, "gates": e}, x, 0, jnp.float32(1)).features

    try:
        protection.probe(outputs, params, network.axes, network.units)
    except ValueError as error:
        raise InputError(f"the network cannot be protected: {error}") from error
