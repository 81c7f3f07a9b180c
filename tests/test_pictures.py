"""Image files of every mode that Pillow knows: read by their range, or refused by name."""

import struct

import numpy as np
import pytest
from PIL import Image

from hatjax.data import pictures
from hatjax.errors import InputError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)  # what 8 bits of each ramp are
PHOTO = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
# Every pixel's colour with and without cover; the first row is transparent.
ALPHA = np.where(np.arange(16)[:, None] == 0, 0, RAMP | 1).astype(np.uint8)
VEILED = np.round(PHOTO * (ALPHA[..., None] / 255)).astype(np.uint8)
VEILED_GREY = np.round(RAMP * (ALPHA / 255)).astype(np.uint8)


def palette(alpha: bool = False) -> Image.Image:
    """A picture whose entry 3 is green, and transparent if asked for."""
    image = Image.fromarray((RAMP % 4).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255, 0, 255, 0])
    if alpha:
        image.info["transparency"] = 3
    return image


ENTRIES = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)
HIDDEN = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
GREYS = Image.fromarray(RAMP, "P")
GREYS.putpalette(np.repeat(np.arange(256), 3).tolist())
WIDE = (RAMP.astype(np.uint16) * 257).astype("<u2")
WITHOUT_FIRST = np.where((PHOTO == PHOTO[0, 0]).all(-1, keepdims=True), 0, PHOTO)


def picture(x: np.ndarray, mode: str) -> Image.Image:
    return Image.frombytes(mode, x.shape[1::-1], np.ascontiguousarray(x).tobytes())


def joined(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.concatenate([np.atleast_3d(x), alpha[..., None]], axis=-1)


# mode -> an image in memory, the pixels that it has
MODES = {
    "1": (Image.fromarray(RAMP > 99), np.where(RAMP > 99, 255, 0)),
    "L": (Image.fromarray(RAMP), RAMP),
    "LA": (picture(joined(RAMP, ALPHA), "LA"), VEILED_GREY),
    "La": (picture(joined(VEILED_GREY, ALPHA), "La"), VEILED_GREY),
    "P": (palette(), ENTRIES[RAMP % 4]),
    "PA": (palette(alpha=True).convert("PA"), HIDDEN[RAMP % 4]),
    "RGB": (Image.fromarray(PHOTO), PHOTO),
    "RGBA": (picture(joined(PHOTO, ALPHA), "RGBA"), VEILED),
    "RGBa": (picture(joined(VEILED, ALPHA), "RGBa"), VEILED),
    "RGBX": (picture(joined(PHOTO, ALPHA), "RGBX"), PHOTO),
    "CMYK": (picture(joined(255 - PHOTO, 0 * ALPHA), "CMYK"), PHOTO),
    "YCbCr": (Image.fromarray(PHOTO).convert("YCbCr"), PHOTO),
    "HSV": (Image.fromarray(PHOTO).convert("HSV"), PHOTO),
    "I;16": (picture(WIDE, "I;16"), RAMP),
    "I;16L": (picture(WIDE, "I;16L"), RAMP),
    "I;16B": (picture(WIDE.astype(">u2"), "I;16B"), RAMP),
    "I;16N": (picture(WIDE.astype("=u2"), "I;16N"), RAMP),
    "F": (Image.fromarray((RAMP / 255).astype(np.float32)), RAMP),
}
REFUSED = {
    "I": Image.fromarray(WIDE.astype(np.int32)),
    "F": Image.fromarray(WIDE.astype(np.float32)),
    "LAB": Image.new("LAB", (16, 16)),
}
# Premultiplied, rounded twice, and of 8 bits each: HSV and YCbCr know fewer colours.
TOLERANCE = {"HSV": 6, "YCbCr": 3, "RGBA": 1, "LA": 1}


def test_all_modes_are_known():
    assert set(MODES) | set(REFUSED) >= set(getattr(Image, "MODES", ()))


@pytest.mark.parametrize("mode", MODES)
def test_modes_in_memory(mode):
    image, want = MODES[mode]
    assert image.mode == mode
    got = pictures.pixels(image)
    assert got.dtype == np.uint8 and got.shape == want.shape
    np.testing.assert_allclose(got.astype(int), want, atol=TOLERANCE.get(mode, 0))


@pytest.mark.parametrize("mode", REFUSED)
def test_modes_without_a_range_in_memory(mode):
    with pytest.raises(pictures.Refused, match=f"mode {mode}"):
        pictures.pixels(REFUSED[mode])


EXACT = {"lossless": True, "exact": True}  # for WebP
# (mode, format, what the file is opened as)
WRITTEN = [
    *[(mode, "PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    *[(mode, "TIFF", mode) for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")],
    *[(mode, "TIFF", mode) for mode in ("I;16", "I;16B", "F")],
    ("RGBX", "TIFF", "RGB"),
    *[(mode, "PPM", mode) for mode in ("1", "L", "RGB", "F")],
    ("I;16", "PPM", "I"),
    ("L", "GIF", "L"),
    ("P", "GIF", "P"),
    *[(mode, "BMP", mode) for mode in ("1", "L", "RGB")],
    *[(mode, "WEBP", mode) for mode in ("RGB", "RGBA")],
]


@pytest.mark.parametrize("mode, kind, opened", WRITTEN)
def test_modes_in_files(tmp_path, mode, kind, opened):
    image, want = MODES[mode]
    path = tmp_path / f"x.{kind.lower()}"
    image.save(path, kind, **(EXACT if kind == "WEBP" else {}))
    with Image.open(path) as again:
        assert again.mode == opened
    got = pictures.read(path)
    assert got.shape == want.shape, "grey stays grey, colour stays colour"
    np.testing.assert_allclose(got.astype(int), want, atol=TOLERANCE.get(mode, 0))
    np.testing.assert_array_equal(pictures.colour(got).shape, (16, 16, 3))


@pytest.mark.parametrize("mode, opened", [("L", "L"), ("RGB", "RGB"), ("CMYK", "CMYK"), ("1", "L")])
def test_jpeg(tmp_path, mode, opened):
    flat = Image.new("RGB", (16, 16), (200, 100, 50)).convert(mode)
    flat.save(tmp_path / "x.jpg", quality=100)
    with Image.open(tmp_path / "x.jpg") as again:
        assert again.mode == opened
    want = np.asarray(flat.convert("L" if mode in ("1", "L") else "RGB"))
    np.testing.assert_allclose(pictures.read(tmp_path / "x.jpg").astype(int), want, atol=2)


@pytest.mark.parametrize(
    "x, words",
    [
        (WIDE.astype(np.int32), "mode I, signed or 32-bit integers"),
        (RAMP.astype(np.int32), "mode I, signed or 32-bit integers"),
        (WIDE.astype(np.float32), "mode F, 32-bit floats) go from 0 to 65535: expected 0..1"),
        (RAMP / np.float32(-255), "mode F, 32-bit floats) go from -1 to"),
        (np.where(RAMP == 7, np.float32("nan"), np.float32(0)), "mode F, 32-bit floats"),
        (None, "mode LAB"),
    ],
)
def test_files_without_a_range_are_refused(tmp_path, x, words):
    image = REFUSED["LAB"] if x is None else Image.fromarray(x)
    image.save(tmp_path / "x.tif")
    with pytest.raises(InputError, match="x.tif: its pixels .*save it with 8 or 16 bits") as caught:
        pictures.read(tmp_path / "x.tif")
    assert words in str(caught.value) and "\n" not in str(caught.value)


def tiff(x: np.ndarray, polarity: int, sign: int, bits: int, order: str = "<") -> bytes:
    """A TIFF of one strip: tags of size, bits, polarity (0: 0 is white) and sign (2: signed)."""
    tags = {
        256: x.shape[1], 257: x.shape[0], 258: bits, 259: 1, 262: polarity, 273: 8, 277: 1,
        278: x.shape[0], 279: x.nbytes, 339: sign,
    }  # fmt: skip
    content = x.tobytes()
    fields = [struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items()]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(content))
    return head + content + struct.pack(f"{order}H", len(tags)) + b"".join(fields) + bytes(4)


@pytest.mark.parametrize(
    "x, polarity, bits, order",
    [
        (RAMP, 0, 8, "<"),
        (RAMP.astype("<u2") * 257, 0, 16, "<"),
        (RAMP.astype("<u2") * 257, 1, 16, "<"),
        (RAMP.astype(">u2") * 257, 1, 16, ">"),
    ],
)
def test_tiffs_whose_0_is_white(tmp_path, x, polarity, bits, order):
    """Pillow turns those of 8 bits and leaves the others."""
    (tmp_path / "x.tif").write_bytes(tiff(x, polarity, 1, bits, order))
    np.testing.assert_array_equal(
        pictures.read(tmp_path / "x.tif"), RAMP if polarity else 255 - RAMP
    )


def test_tiffs_of_12_bits(tmp_path):
    wide = np.round(RAMP * (4095 / 255)).astype(int).ravel()
    pairs = zip(wide[::2].tolist(), wide[1::2].tolist(), strict=True)
    packed = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in pairs)
    packed = np.frombuffer(packed, np.uint8).reshape(16, 24)
    content = bytearray(tiff(packed, 1, 1, 12))
    content[8 + 384 + 2 + 8 : 8 + 384 + 2 + 10] = struct.pack("<H", 16)  # the width
    (tmp_path / "x.tif").write_bytes(content)
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.tif"), RAMP)


@pytest.mark.parametrize("dtype, bits", [("i1", 8), ("<i2", 16)])
def test_signed_tiffs_are_refused(tmp_path, dtype, bits):
    (tmp_path / "x.tif").write_bytes(tiff(RAMP.astype(dtype), 1, 2, bits))
    with pytest.raises(InputError, match="x.tif: its pixels .mode ., signed"):
        pictures.read(tmp_path / "x.tif")


# What is transparent shows no colour.


@pytest.mark.parametrize("colour", [(255, 0, 0), (1, 2, 3), (255, 255, 255)])
@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_no_colour_shows_under_alpha_0(tmp_path, colour, kind):
    image = Image.new("RGBA", (4, 4), (*colour, 0))
    image.save(tmp_path / f"x.{kind}", **(EXACT if kind == "webp" else {}))
    assert not pictures.read(tmp_path / f"x.{kind}").any()


@pytest.mark.parametrize(
    "image, transparency, want",
    [
        (palette(), 3, HIDDEN[RAMP % 4]),
        (palette(), bytes([255, 255, 255, 0]), HIDDEN[RAMP % 4]),
        (GREYS, 200, np.where(RAMP == 200, 0, RAMP)),
        (MODES["L"][0], 200, np.where(RAMP == 200, 0, RAMP)),
        (MODES["RGB"][0], tuple(PHOTO[0, 0].tolist()), WITHOUT_FIRST),
        (MODES["I;16"][0], 200 * 257, np.where(RAMP == 200, 0, RAMP)),
        (Image.new("1", (4, 4), 1), 1, np.zeros((4, 4))),
    ],
)
def test_the_transparent_colour_of_a_png(tmp_path, image, transparency, want):
    image.save(tmp_path / "x.png", transparency=transparency)
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.png"), want)


def test_a_palette_of_greys_is_grey(tmp_path):
    """As Pillow writes a grey GIF of few shades."""
    Image.fromarray(RAMP // 64 * 64).save(tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as image:
        assert image.mode == "P"
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.gif"), RAMP // 64 * 64)


def test_the_transparent_colour_of_a_gif(tmp_path):
    palette().save(tmp_path / "x.gif", transparency=3)
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.gif"), HIDDEN[RAMP % 4])


# EXIF.


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tif", "webp", "jpg"])
def test_pictures_are_upright(tmp_path, kind, orientation):
    tall = np.repeat(np.repeat(np.array([[250, 10], [90, 170], [50, 130]], np.uint8), 8, 0), 8, 1)
    path = tmp_path / f"x.{kind}"
    options = {"webp": EXACT, "jpg": {"quality": 100}}.get(kind, {})
    Image.fromarray(tall).save(path, exif=turned(orientation), **options)
    want = np.rot90(tall, {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0))
    want = want[:, ::-1] if orientation in (2, 4, 5, 7) else want
    got = pictures.read(path)
    got = got if got.ndim == 2 else got[..., 0]
    np.testing.assert_allclose(got.astype(int), want, atol=3)


@pytest.mark.parametrize("mode", ["I;16", "P", "LA", "1"])
def test_pictures_of_any_mode_are_upright(tmp_path, mode):
    image, _ = MODES[mode]
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", exif=turned(6))
    want = np.rot90(pictures.read(tmp_path / "a.png"), 3)
    np.testing.assert_array_equal(pictures.read(tmp_path / "b.png"), want)


def test_a_damaged_exif_block_is_passed_over(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "x.png", exif=b"Exif\0\0no tags at all")
    np.testing.assert_array_equal(pictures.read(tmp_path / "x.png"), RAMP)


# Other sizes.


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resized(dtype, channels):
    """A channel is resized as if it were alone, to rounding; numbers keep their unit."""
    x = np.random.default_rng(0).integers(0, 256, (16, 12, channels)).astype(dtype)
    got = pictures.resized(x, 8, 7)
    assert got.shape == (8, 7, channels) and got.dtype == dtype
    for c in range(channels):
        alone = np.asarray(Image.fromarray(x[..., c]).resize((7, 8), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(got[..., c], alone)
