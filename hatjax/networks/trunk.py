"""Stages one after the other: the MLP and AlexNet as most approaches use them."""

from collections.abc import Callable

import flax.linen as nn

from hatjax.networks.layers import Dropout, affine, gate
from hatjax.networks.stages import Stage, enter, leave, linear
from hatjax.types import Array


class Trunk(nn.Module):
    """Images "b h w c" -> features "b d". Each stage's output is multiplied by its gate."""

    stages: tuple[Stage, ...]
    dropout_in: float = 0.0  # of the images
    affine: Callable = affine  # of the layers

    @property
    def units(self) -> dict[str, int]:
        """The gated layers, in order, and their units."""
        return {stage.name: stage.units for stage in self.stages}

    @property
    def rules(self) -> dict[str, tuple]:
        """Weights lie between the gate of the stage before and that of their own."""
        rules: dict[str, tuple] = {}
        sources = [None, *self.units]
        for stage, source in zip(self.stages, sources, strict=False):
            positions = (None, None) if stage.kernel else ()
            rules[f"{stage.name}/kernel"] = (*positions, source, stage.name)
            rules[f"{stage.name}/bias"] = (stage.name,)
        return rules

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array]) -> Array:
        h = Dropout(self.dropout_in)(x)
        for stage in self.stages:
            h = leave(stage, linear(stage, affine=self.affine)(enter(stage, h)))
            h = gate(h, gates, stage.name)
        return h
