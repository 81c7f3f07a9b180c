"""One image file -> 8-bit pixels, grey or RGB, whatever mode it is stored in.

Each of Pillow's modes is converted by the range that it has, or refused by name. The picture is
turned as its EXIF orientation says, and what is transparent becomes black.
"""

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hatjax.errors import InputError, oneline

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp")
# No other format is decoded, whatever the file name: Pillow runs other programs for some.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
GREY = ("1", "L", "LA", "La")
COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "P", "PA")
BITS, POLARITY, SIGN = 258, 262, 339  # tags of TIFF
SAVE = "save it with 8 or 16 bits a channel, as grey or RGB"


def size(path: Path) -> tuple[int, int]:
    """Width and height from the header, before the picture is turned; InputError as `read`."""
    return _opened(path, lambda image: image.size)


def read(path: Path) -> np.ndarray:
    """A grey picture "h w" or an RGB one "h w 3", uint8.

    InputError, naming the file, if it cannot be read, or its pixels have no agreed range.
    """
    return _opened(path, pixels)


def colour(x: np.ndarray) -> np.ndarray:
    """A grey picture "h w" or an RGB one "h w 3" as RGB."""
    return np.repeat(x[..., None], 3, axis=-1) if x.ndim == 2 else x


def resized(x: np.ndarray, h: int, w: int) -> np.ndarray:
    """A picture "h w" or "h w c", uint8 or float32, in another size; its proportions may change."""
    if x.shape[:2] == (h, w):
        return x
    if x.ndim == 3 and (x.shape[2] not in (3, 4) or x.dtype != np.uint8):  # Pillow knows no such
        return np.stack([resized(channel, h, w) for channel in np.moveaxis(x, 2, 0)], axis=-1)
    return np.asarray(Image.fromarray(x).resize((w, h), Image.Resampling.BILINEAR))


class Refused(ValueError):
    """What the numbers in a file mean is not known. The message says which, and what to do."""


def pixels(image: Image.Image) -> np.ndarray:
    """The pixels of an open image as in `read`; Refused for a mode that has no agreed range."""
    image.load()
    upright = image
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing; the pixels are whole
        upright = ImageOps.exif_transpose(image)
    # A "mode I" of 16 bits without a sign is what Pillow makes of PGM files.
    if 2 in _tag(image, SIGN) or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise Refused(
            f"its pixels (mode {image.mode}, signed or 32-bit integers) have no agreed white: "
            f"{SAVE}"
        )
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _scaled(image, upright)
    if image.mode in GREY:
        return _opaque(upright, "L")
    if image.mode not in COLOUR:
        raise Refused(f"its pixels are of mode {image.mode}: {SAVE}")
    x = _opaque(upright, "RGB")
    # A palette says nothing about colour: its entries do.
    greys = image.mode in ("P", "PA") and (x == x[..., :1]).all()
    return x[..., 0] if greys else x


def _opaque(image: Image.Image, mode: str) -> np.ndarray:
    """8-bit pixels in `mode`, "L" or "RGB"; what is transparent is mixed with black."""
    if image.mode not in ("La", "RGBa"):  # these are mixed with black already
        if "A" not in image.mode and "transparency" not in image.info:
            return np.asarray(image.convert(mode))
        image = image.convert(f"{mode}A").convert(f"{mode}a")
    x = np.asarray(image)[..., :-1]
    return x[..., 0] if mode == "L" else x


def _scaled(image: Image.Image, upright: Image.Image) -> np.ndarray:
    """Grey pixels of more than 8 bits, `upright`, by the range that the file `image` has."""
    x = np.asarray(upright)
    if image.mode == "F":
        top = 1.0
        if not (x.size and 0 <= x.min() and x.max() <= 1):  # false for NaN, too
            raise Refused(
                f"its pixels (mode F, 32-bit floats) go from {x.min():g} to {x.max():g}: "
                f"expected 0..1; divide them, or {SAVE}"
            )
    else:
        top = 2.0 ** max(_tag(image, BITS), default=16) - 1
    if 0 in _tag(image, POLARITY):  # 0 is white; Pillow turns only 8 bits and fewer
        x = top - x
    clear = image.info.get("transparency")
    return np.where(x == clear, 0, np.round(x * (255 / top))).astype(np.uint8)


def _tag(image: Image.Image, tag: int) -> tuple[Any, ...]:
    """The values of a TIFF tag, as numbers; () for other formats."""
    found = getattr(image, "tag_v2", {}).get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def _opened(path: Path, get: Callable[[Image.Image], Any]) -> Any:
    """get(image) of an image file; InputError if it cannot be read."""
    try:
        if not path.is_file():  # reading a pipe could block forever
            raise ValueError("not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about harmless oddities
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # Not by its path: Pillow maps that into memory, and then tears turned TIFFs.
            with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
                return get(image)
    except Refused as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # Pillow raises many exception types for a damaged file
        raise InputError(
            f"{path}: not a readable image ({oneline(error)}): replace or remove it"
        ) from error
