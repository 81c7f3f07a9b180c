"""From raw examples to what a network reads."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from hatjax.analysis.blocks import traced
from hatjax.data import columns, scale
from hatjax.data.raw import numbers
from hatjax.errors import InputError
from hatjax.types import About, Array


def as_trained(x: Any, about: About) -> np.ndarray:
    """Raw examples as an array of numbers whose columns stand as in training.

    Raises InputError for other columns or another unit than in training, and as data.raw.numbers.
    """
    x, names = columns.table(x, "the images")
    x = numbers(columns.ordered(x, names, about.columns, "the images"), "the images", about.columns)
    scale.check(x, about.scale, "the images")
    return x


def normalised(
    x: Array, image: tuple[int, ...], mean: Array, std: Array, pixels: Array | None
) -> Array:
    """Network inputs "n h w c" from raw images, with a task's mean and std "c" and pixel order.

    Raises as `examples`; all but `image` may be traced.
    """
    x = examples(x, image)
    if pixels is not None:
        x = jnp.asarray(x) if traced(pixels) else x  # which indexes no array of NumPy
        x = x.reshape(len(x), len(pixels))[:, pixels].reshape(x.shape)
    each = (1, 1, 1, len(mean))
    return (x.astype(np.float32) - mean.reshape(each)) / std.reshape(each)


def examples(x: Array, image: tuple[int, ...]) -> Array:
    """Raw images "n h w c" of the shape `image` (h, w, c) as an array.

    Grey images may be "n h w", and feature vectors (1x1 images) "n c". Raises InputError for other
    shapes, and as data.raw.numbers unless x is traced.
    """
    x = x if traced(x) else numbers(x, "the images")
    h, w, c = image
    shapes = [image, *[(h, w)] * (c == 1), *[(c,)] * (h == w == 1)]
    if x.shape[1:] not in shapes or not x.ndim:
        expected = ", ".join(map(str, shapes[-1]))
        raise InputError(f"the images are of shape {x.shape}: the model expects [n, {expected}]")
    return x.reshape(len(x), *image)
