"""Whether examples are in the unit that a task was trained in: pixels of 0..1 or of 0..255."""

import numpy as np

from hatjax.data import lazy
from hatjax.errors import InputError
from hatjax.types import Scale

WEAKER = 10  # examples so many times smaller than in training are in another unit
FEW = 16  # numbers, or examples; fewer may be weak by chance
DARK = 100  # WEAKER for few examples, and for uint8: its unit is known, a picture may be dark
PIXELS, FEATURES = 0.5, 10  # how far beyond the range of training, in units of it, is another unit


def of(x: np.ndarray) -> Scale:
    """The range of examples "n h w c", and the usual size of their largest number."""
    low, high = map(np.concatenate, zip(*map(_ranges, lazy.blocks(x)), strict=True))
    return Scale(float(low.min()), float(high.max()), float(np.median(_sizes(low, high))))


def check(x: np.ndarray, scale: Scale | None, where: str) -> None:
    """Raise InputError, beginning with `where`, if examples "n ..." are in another unit.

    Most of the examples must then be out of the range, so that single ones may be unusual. Images
    reach less far beyond their range than measurements.
    """
    if scale is None or scale.low == scale.high or x.ndim < 2 or not x.size:
        return
    low, high = _ranges(x)
    sizes = _sizes(low, high)
    if not sizes.any():  # black
        return
    vectors = x.ndim == 2 or x.shape[1:3] == (1, 1)
    room = (scale.high - scale.low) * (FEATURES if vectors else PIXELS)
    least = scale.usual / (DARK if x.dtype == np.uint8 or len(x) < FEW else WEAKER)
    weak = x.size >= FEW and np.median(sizes[sizes > 0]) < least
    if weak or np.median(low) < scale.low - room or np.median(high) > scale.high + room:
        lowest, highest = low.min(), high.max()
        raise InputError(
            f"{where}: numbers from {lowest:g} to {highest:g}, but training had {scale.low:g} to "
            f"{scale.high:g}: give them in that unit{_hint(lowest, highest, scale)}"
        )


def _ranges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest number "n" of each example."""
    rest = tuple(range(1, x.ndim))
    return x.min(rest).astype(float), x.max(rest).astype(float)


def _sizes(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.maximum(high, -low)


def _hint(low: float, high: float, scale: Scale) -> str:
    if 0 <= low and high <= 1 and 0 <= scale.low and 128 < scale.high <= 255:
        return ", as 255 * x"
    if 0 <= low and 1 < high <= 255 and 0 <= scale.low and scale.high <= 1:
        return ", as x / 255"
    return ""
