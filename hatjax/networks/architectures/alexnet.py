"""The AlexNet-like network of the paper, for 32x32x3 images."""

from ml_collections import ConfigDict

from hatjax.config import NetworkSpec, ranges
from hatjax.errors import InputError
from hatjax.networks.stages import Stage, rates
from hatjax.networks.trunk import Trunk

LAYERS = ("c1", "c2", "c3", "fc1", "fc2")


def kernels(side: int) -> tuple[int, int, int]:
    """The kernel sizes of the convolutions for images of `side` pixels."""
    return side // 8, side // 10, 2


def leaves_pixels(side: int) -> bool:
    """Whether images of `side` pixels leave something to pool after every convolution."""
    sizes = kernels(side)
    for k in sizes:
        side = (side - k + 1) // 2
    return min(sizes) > 0 and side > 0


def make(config: ConfigDict, image: tuple[int, ...]) -> Trunk:
    """Three convolutions and two dense layers.

    InputError for another number of widths or dropout rates than five, and for an image that is not
    square or too small.
    """
    if len(config.widths) != 5:
        raise InputError(
            "config.network.widths: alexnet has 5 layers (3 convolutions, 2 dense), got "
            f"{len(config.widths)} widths"
        )
    if image[0] != image[1] or not leaves_pixels(image[0]):
        raise InputError(
            f"images of {image[0]}x{image[1]}: alexnet needs square ones of at least 12 pixels a "
            "side; use --config.network.name=mlp, or larger images"
        )
    sizes = (*kernels(image[0]), 0, 0)
    forms = (config.get("conv", "patches"),) * len(LAYERS)
    return Trunk(tuple(map(Stage, LAYERS, config.widths, rates(config), sizes, forms)))


NETWORK = NetworkSpec(
    make,
    fields=dict(
        widths=(64, 128, 256, 2048, 2048),
        dropout=(0.2, 0.2, 0.5, 0.5, 0.5),  # of each layer, or one for all
        conv="auto",  # how convolutions are computed; or "patches", "native" (layers.convolution)
    ),
    ranges={"widths": ranges.WIDTHS, "dropout": ranges.RATES, "conv": ranges.CONV},
    later={"conv": "auto"},
)
