"""The modules of a PathNet (Fernando et al., 2017): a stage is the sum of a few small layers."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from hatjax.networks import head
from hatjax.networks.columns import ungated
from hatjax.networks.layers import Dropout, affine, patches, uniform
from hatjax.networks.stages import Stage, enter, leave, scaled
from hatjax.networks.trunk import Trunk
from hatjax.types import Array, Network, Out, Tree


class Modules(nn.Module):
    """Images "b h w c" -> features "b d"; every stage sums the outputs of its `count` modules."""

    stages: tuple[Stage, ...]
    dropout_in: float
    count: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = Dropout(self.dropout_in)(x)
        for stage in self.stages:
            h = leave(stage, Wide(stage, self.count, name=stage.name)(enter(stage, h)))
            h = h.reshape(*h.shape[:-1], self.count, stage.units).sum(-2)  # "b ... units"
        return h


class Wide(nn.Module):
    """The linear layers of all modules of a stage, side by side: "b ... i" -> "b ... m*units"."""

    stage: Stage
    count: int  # m

    @nn.compact
    def __call__(self, x: Array) -> Array:
        k, m, units = self.stage.kernel, self.count, self.stage.units
        shape = (*((k, k) if k else ()), x.shape[-1])
        start = uniform(math.prod(shape))
        w = self.param("kernel", start, (m, *shape, units))
        b = self.param("bias", start, (m, units))
        w = jnp.moveaxis(w, 0, -2).reshape(-1, m * units)
        return affine(patches(x, k) if k else x, w, b.reshape(-1))


def make(
    config: ConfigDict, trunk: Trunk, image: tuple[int, ...], classes: tuple[int, ...]
) -> Network:
    """A Network with config.network.modules modules a stage, each .expand times as wide as `trunk`.

    params["trunk"] is {stage: "M ..."}. `apply` runs all the modules that it is given: to run a
    path, give it the path's rows of these arrays alone.
    """
    stages = scaled(trunk.stages, config.network.expand)

    def module(count: int) -> Modules:
        return Modules(stages, trunk.dropout_in, count)

    def init(key: Array) -> Tree:
        first, last = jax.random.split(key)
        x = jnp.zeros((1, *image))
        z, values = module(config.network.modules).init_with_output(first, x)
        heads = head.start(last, z.shape[-1], classes)
        return {"trunk": values["params"], "norms": {}, "stats": {}, "gates": {}, "head": heads}

    def apply(
        params: Tree,
        x: Array,
        task: Array,
        s: Array | None = None,
        key: Array | None = None,
        weight: Array | None = None,
    ) -> Out:
        count = len(params["trunk"][stages[0].name]["bias"])
        streams = {} if key is None else {"dropout": key}
        z = module(count).apply({"params": params["trunk"]}, x, rngs=streams)
        return Out(head.logits(params, z, task, classes), z, {}, {})

    return Network(init, apply, ungated, {}, {}, classes)
