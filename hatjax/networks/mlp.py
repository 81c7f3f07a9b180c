"""The multi-layer perceptron of the paper's MNIST experiments."""

import flax.linen as nn
import jax

from hatjax.networks.layers import Dense, Dropout, gate
from hatjax.types import Array


class MLP(nn.Module):
    """Images "b h w c" -> features "b d". HAT's has 2 layers of 2000 and drops .2 of the input."""

    widths: tuple[int, ...]
    dropout_in: float
    dropout: float

    @property
    def units(self) -> dict[str, int]:
        """The gated layers, in order, and their units."""
        return {f"fc{i + 1}": width for i, width in enumerate(self.widths)}

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array]) -> Array:
        h = Dropout(self.dropout_in)(x.reshape(len(x), -1))  # "b hwc"
        source = None
        for layer, width in self.units.items():
            h = jax.nn.relu(Dense(width, gate=layer, source=source, name=layer)(h))
            h = gate(Dropout(self.dropout)(h), gates, layer)  # "b units"
            source = layer
        return h
