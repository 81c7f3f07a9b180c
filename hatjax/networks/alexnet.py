"""The AlexNet-like network of the paper, for 32x32x3 images."""

import flax.linen as nn
import jax

from hatjax.networks.layers import Conv, Dense, Dropout, gate, pool
from hatjax.types import Array


class AlexNet(nn.Module):
    """Images "b h w c" -> features "b d": three convolutions, two dense layers.

    Kernels have side//8, side//10 and 2 pixels; each convolution is followed by ReLU, dropout and
    2x2 max-pooling, then its gate.
    """

    widths: tuple[int, ...] = (64, 128, 256, 2048, 2048)
    dropout: tuple[float, ...] = (0.2, 0.2, 0.5, 0.5, 0.5)

    @property
    def units(self) -> dict[str, int]:
        """The gated layers, in order, and their units (filters are units)."""
        return dict(zip(("c1", "c2", "c3", "fc1", "fc2"), self.widths, strict=True))

    @staticmethod
    def kernels(side: int) -> tuple[int, int, int]:
        """The kernel sizes for images of `side` pixels."""
        return side // 8, side // 10, 2

    @staticmethod
    def fits(side: int) -> bool:
        """Whether images of `side` pixels leave something to pool after every convolution."""
        kernels = AlexNet.kernels(side)
        for k in kernels:
            side = (side - k + 1) // 2
        return min(kernels) > 0 and side > 0

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array]) -> Array:
        h, source = x, None
        kernels = dict(zip(("c1", "c2", "c3"), self.kernels(x.shape[1]), strict=True))
        for (layer, units), rate in zip(self.units.items(), self.dropout, strict=True):
            names = dict(gate=layer, source=source, name=layer)
            if layer in kernels:
                h = jax.nn.relu(Conv(units, kernels[layer], **names)(h))
                h = pool(Dropout(rate)(h))  # "b h w units"
            else:
                h = jax.nn.relu(Dense(units, **names)(h.reshape(len(h), -1)))
                h = Dropout(rate)(h)  # "b units"
            h, source = gate(h, gates, layer), layer
        return h
