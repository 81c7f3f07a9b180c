"""The paper's networks as sequences of stages.

A sequence is made into one trunk, with or without gates (trunk.py), into the columns of a
progressive network (columns.py) or into the modules of a PathNet (modules.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from hatjax.errors import InputError
from hatjax.networks.layers import Conv, Dense, Dropout, affine, pool
from hatjax.types import Array


class Stage(NamedTuple):
    """A linear layer, ReLU, dropout and, behind a convolution, 2x2 max-pooling."""

    name: str
    units: int  # filters of a convolution are units
    rate: float  # of the dropout
    kernel: int = 0  # the side of a convolution's kernel in pixels; 0: a dense layer
    conv: str = "patches"  # how it is computed, as layers.Conv takes it


def rates(config: ConfigDict) -> tuple[float, ...]:
    """The dropout rate of each layer: config.dropout is one for all, or a tuple of as many.

    InputError if the tuple has another number of rates than config.widths has layers.
    """
    if not isinstance(config.dropout, tuple):
        return (config.dropout,) * len(config.widths)
    if len(config.dropout) != len(config.widths):
        raise InputError(
            f"config.network.dropout: {len(config.dropout)} rates for {len(config.widths)} layers "
            "(config.network.widths): expected one each, or a number for all"
        )
    return config.dropout


def linear(stage: Stage, prefix: str = "", affine: Callable = affine) -> nn.Module:
    """The stage's layer with weights."""
    name = prefix + stage.name
    if stage.kernel:
        return Conv(stage.units, stage.kernel, affine=affine, form=stage.conv, name=name)
    return Dense(stage.units, affine, name=name)


def enter(stage: Stage, h: Array) -> Array:
    """The input of the stage's linear layer: "b h w c" for a convolution, else flat, "b hwc".

    Where a convolution's output has an odd side, its last row and column are dropped by the
    pooling (`leave`): what only they read is left out, so that they are not computed.
    """
    if not stage.kernel:
        return h.reshape(len(h), -1)
    height, width = ((side - stage.kernel + 1) // 2 * 2 for side in h.shape[1:3])
    return h[:, : height + stage.kernel - 1, : width + stage.kernel - 1]


def leave(stage: Stage, h: Array) -> Array:
    """From the linear layer's output to the stage's, "b h w units" or "b units".

    The published networks have ReLU, dropout and pooling in this order. ReLU comes last here, on a
    quarter of the numbers, since max(relu(x)) = relu(max(x)).
    """
    h = Dropout(stage.rate)(h)
    return jax.nn.relu(pool(h) if stage.kernel else h)


def scaled(stages: tuple[Stage, ...], factor: float) -> tuple[Stage, ...]:
    """The stages with so many times the units, rounded down, at least one."""
    return tuple(stage._replace(units=max(1, int(factor * stage.units))) for stage in stages)


def kept_whole(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages, without dropout in the last one."""
    return (*stages[:-1], stages[-1]._replace(rate=0.0))
