"""Residual networks (He et al., CVPR 2016) for small images, as continual learning uses them.

The stem is a 3x3 convolution without pooling. Every stage has one stream of units to which all its
blocks add, so all of them share the gate of the stage; within a block the units between its two
convolutions have a gate of their own.
"""

import functools

import flax.linen as nn
from ml_collections import ConfigDict

from hatjax.config import NetworkSpec, ranges
from hatjax.errors import InputError
from hatjax.networks.layers import NORM_RULES, Conv, gate, normalised
from hatjax.types import Array

# The published start: N(0, 2 / (k k units)).
start = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """Images "b h w c" -> features "b d": the mean over the positions of the last stage."""

    widths: tuple[int, ...]  # of the stages; each but the first halves the image
    blocks: tuple[int, ...]
    norm: str
    conv: str = "patches"  # the form of layers.Conv

    def names(self) -> list[tuple[str, str | None, str, int, int]]:
        """A row for each block, in order: the gate of the units within it, the gates of the stream
        that it reads and of that to which it adds, the stream's width, the stride.
        """
        found: list[tuple[str, str | None, str, int, int]] = []
        source = "s1"
        for i, (width, count) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for b in range(count):
                stride = 2 if b == 0 and i > 0 else 1
                found.append((f"s{i + 1}b{b + 1}", source, f"s{i + 1}", width, stride))
                source = f"s{i + 1}"
        return found

    @property
    def units(self) -> dict[str, int]:
        """A gate for every stream, and one for the inside of every block."""
        units: dict[str, int] = {}
        for inner, _, stream, width, _ in self.names():
            units |= {stream: width, inner: width}
        return units

    @property
    def rules(self) -> dict:
        rules: dict = {"stem/kernel": (None, None, None, "s1"), "stem/bias": ("s1",)}
        for inner, source, stream, _, _ in self.names():
            for layer, i, o in (
                ("in", source, inner), ("out", inner, stream), ("skip", source, stream)
            ):  # fmt: skip
                rules |= {f"{inner}_{layer}/kernel": (None, None, i, o)}
                rules |= {f"{inner}_{layer}/bias": (o,)}
        return rules | NORM_RULES

    @nn.compact
    def __call__(self, x: Array, gates: dict[str, Array], train: bool) -> Array:
        conv = functools.partial(Conv, bias=self.norm == "none", start=start, form=self.conv)

        def norm(h: Array, of: str, name: str) -> Array:
            return normalised(h, self.norm, gates, of, train, name)

        h = conv(self.widths[0], 3, padding=1, name="stem")(x)
        h = gate(nn.relu(norm(h, "s1", "stem")), gates, "s1")
        for inner, _, stream, width, stride in self.names():
            z = conv(width, 3, padding=1, stride=stride, name=f"{inner}_in")(h)
            z = gate(nn.relu(norm(z, inner, f"{inner}_in")), gates, inner)
            z = norm(conv(width, 3, padding=1, name=f"{inner}_out")(z), stream, f"{inner}_out")
            if stride > 1:
                h = conv(width, 1, stride=stride, name=f"{inner}_skip")(h)
                h = norm(h, stream, f"{inner}_skip")
            h = gate(nn.relu(h + z), gates, stream)
        return h.mean(axis=(1, 2))


def make(blocks: tuple[int, ...], config: ConfigDict, image: tuple[int, ...]) -> ResNet:
    """A ResNet with so many basic blocks in each stage; InputError unless there is a width for each
    of its stages.
    """
    if len(config.widths) != len(blocks):
        raise InputError(
            f"config.network.widths: {config.name} has {len(blocks)} stages, got "
            f"{len(config.widths)} widths"
        )
    return ResNet(config.widths, blocks, config.norm, config.get("conv", "patches"))


# The smaller ResNet of continual learning, with a third of the published widths.
FIELDS = dict(
    widths=(20, 40, 80, 160),  # of the stages
    norm="batch",  # or "layer", "group", "none"
    conv="auto",  # how convolutions are computed; or "patches", "native" (layers.convolution)
)
LATER = {"conv": "auto"}
RANGES = {"widths": ranges.WIDTHS, "norm": ranges.NORM, "conv": ranges.CONV}
NETWORK = NetworkSpec(functools.partial(make, (2, 2, 2, 2)), FIELDS, RANGES, later=LATER)
