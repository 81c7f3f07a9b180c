"""Any list of convolutions, each with a norm, a gate and pooling."""

import flax.linen as nn
from ml_collections import ConfigDict

from hatjax.config import NetworkSpec, ranges
from hatjax.networks.layers import NORM_RULES, Conv, Dropout, gate, normalised, pool
from hatjax.networks.stages import rates
from hatjax.types import Array


class ConvNet(nn.Module):
    """Images "b h w c" -> features "b d": the mean over the positions of the last convolution."""

    widths: tuple[int, ...]
    kernel: int  # side of the kernels in pixels; images keep their size
    norm: str
    dropout: tuple[float, ...]
    conv: str = "patches"  # the form of layers.Conv

    @property
    def units(self) -> dict[str, int]:
        return {f"c{i + 1}": width for i, width in enumerate(self.widths)}

    @property
    def rules(self) -> dict:
        rules: dict = {}
        for source, name in zip([None, *self.units], self.units, strict=False):
            rules |= {f"{name}/kernel": (None, None, source, name), f"{name}/bias": (name,)}
        return rules | NORM_RULES

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array], train: bool) -> Array:
        h = x
        for (name, width), rate in zip(self.units.items(), self.dropout, strict=True):
            h = Conv(width, self.kernel, padding=self.kernel // 2, form=self.conv, name=name)(h)
            h = nn.relu(normalised(h, self.norm, gates, name, train))
            h = gate(Dropout(rate)(h), gates, name)
            h = pool(h) if min(h.shape[1:3]) > 1 else h
        return h.mean(axis=(1, 2))


def make(config: ConfigDict, image: tuple[int, ...]) -> ConvNet:
    """A convolution for each width, with 2x2 pooling after it while the image has 2 pixels a side.
    """
    conv = config.get("conv", "patches")
    return ConvNet(config.widths, config.kernel, config.norm, rates(config), conv)


NETWORK = NetworkSpec(
    make,
    fields=dict(
        widths=(32, 64, 128),  # of the convolutions
        kernel=3,  # their side
        norm="batch",  # or "layer", "group", "none"
        dropout=0.0,
        conv="auto",  # how convolutions are computed; or "patches", "native" (layers.convolution)
    ),
    ranges={
        "widths": ranges.WIDTHS,
        "kernel": ranges.SMALL_COUNT,
        "norm": ranges.NORM,
        "dropout": ranges.RATES,
        "conv": ranges.CONV,
    },
    later={"conv": "auto"},
)
