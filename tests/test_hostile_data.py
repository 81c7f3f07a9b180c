"""Image sets in files with anything in them: each is read, or refused in one line that names it."""

import io
import os
import pickle
import resource
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hatjax import config
from hatjax.data import pickles, sources, tasks, vision, zipped
from hatjax.data.raw import ARRAYS
from tests import hostile
from tests import raw_files as files

SMALL = files.raw(n=24, side=6, channels=1, classes=3)
WHOLE = {k: getattr(SMALL, k) for k in ARRAYS} | {"classes": np.array(["a", "b", "c"])}


def saved(save, *args, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


def made(folder: Path, name: str = "mine", kind: str = "split") -> list:
    """The tasks of an image set in a folder."""
    c = config.make("digits", "hat")
    c.data.root, c.data.sets, c.tasks.kind, c.tasks.count = str(folder), (name,), kind, 2
    return tasks.make(c)


def read(folder: Path, says: str, name: str = "mine") -> bool:
    """Whether tasks can be made; nothing in the folder changes, and a refusal names the file."""
    before = hostile.snapshot(folder)
    try:
        return hostile.told(made, folder, name, says=says)
    finally:
        assert hostile.snapshot(folder) == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module", autouse=True)
def offline():
    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", refuse)
        yield


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """What a file declares is not allocated: 2 GB more than now is more than any test takes."""
    vision.datasets()  # torch takes some when it is imported
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + 2 * 10**9
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@hostile.examples(300)
@given(
    hostile.damaged(saved(np.savez, **WHOLE))
    | hostile.damaged(saved(np.savez_compressed, **WHOLE))
    | st.binary(max_size=60)
)
def test_any_npz(folder, content):
    (folder / "mine.npz").write_bytes(content)
    read(folder, says="mine")


HEADER = "{'descr': %r, 'fortran_order': %s, 'shape': %s, }"


def member(header: str, version: bytes = b"\1\0", content: bytes = bytes(36)) -> bytes:
    """An .npy file with a header of one's own."""
    text = header.encode("latin1", "replace") + b"\n"
    size = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + content


@hostile.examples(300)
@given(
    st.sampled_from((*ARRAYS, "classes")),
    st.sampled_from(("|u1", "<i4", "|O", "<f8", "<c16", "<M8[s]", "|V9", "<U4", "|b1", "|S0", "x"))
    | st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(("<i4", "|O")))),
    st.sampled_from((True, False, None, "yes")),
    st.lists(st.sampled_from((0, 1, 4, 6, 9, -1, 10**6, 10**12, 2**63, 2**70)), max_size=5)
    .map(tuple).map(str) | st.text(max_size=9) | st.sampled_from(("(" * 2000, "[1, 2]", "1e9")),
    st.sampled_from((b"\1\0", b"\2\0", b"\3\0", b"\xff\xff")),
)
def test_any_header(folder, name, dtype, order, shape, version):
    """Of an array in the archive, as of one with 10**12 numbers."""
    text = HEADER % (dtype, order, shape)
    content = {k: saved(np.save, a) for k, a in WHOLE.items()}
    content[name] = member(text, version)
    (folder / "mine.npz").write_bytes(files.zipped({f"{k}.npy": v for k, v in content.items()}))
    read(folder, says="mine")


arrays = st.builds(
    lambda shape, dtype, fill: np.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 5), max_size=5).map(tuple),
    st.sampled_from(("u1", "i8", "i4", "u8", "f4", "f8", "c8", "?", "U3", "S3", "O", "M8[s]")),
    st.sampled_from((0, 1, 2, 255)),
) | st.lists(st.sampled_from((0, 1, 2, 3, -1, 2**31, 2**62)), max_size=24).map(
    lambda v: np.array(v, np.int64)
)


@hostile.examples(200)
@given(
    st.dictionaries(st.sampled_from((*ARRAYS, "classes", "more")), arrays, max_size=4),
    st.booleans(),
)
def test_any_arrays(folder, changes, whole):
    found = (WHOLE if whole else {}) | changes
    np.savez(folder / "mine.npz", **found)
    for kind in ("split", "permuted"):
        hostile.told(made, folder, "mine", kind)


def test_an_archive_that_unpacks_to_more_than_memory(folder):
    """300 MB of zeros in 300 kB say that they are 10**12."""
    with zipfile.ZipFile(folder / "mine.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ARRAYS:
            text = HEADER % ("|u1", False, "(1000000, 1000, 1000)")
            archive.writestr(f"{name}.npy", member(text, content=bytes(10**7)))
    assert not read(folder, says="declares uint8 of shape (1000000, 1000, 1000)")


@hostile.examples(100)
@given(st.sampled_from(("train-images-idx3", "t10k-images-idx3", "train-labels-idx1")), st.data())
def test_any_idx(tmp_path_factory, name, data):
    where = tmp_path_factory.getbasetemp() / "idx"
    raw = where / "MNIST" / "raw"
    if not raw.exists():
        files.write_idx(raw, files.raw(n=24, side=28, channels=1, classes=3))
    path = raw / f"{name}-ubyte"
    whole = path.read_bytes()
    lies = st.lists(st.sampled_from((0, 1, 24, 28, 2051, 2**31 - 1, 2**31, 2**32 - 1)), max_size=5)
    header = lies.map(lambda v: struct.pack(f">{len(v)}I", *v) + whole[4 * len(v) :])
    try:
        path.write_bytes(data.draw(hostile.damaged(whole) | header))
        hostile.told(made, where, "mnist", says="mnist")
    finally:
        path.write_bytes(whole)
        (where / "mnist.npz").unlink(missing_ok=True)


PICKLED = pickle.dumps({"features": np.zeros((6, 1, 4, 4)), "labels": np.arange(6) % 2}, 2)


@hostile.examples(300)
@given(hostile.damaged(PICKLED) | st.binary(max_size=40) | hostile.values.map(pickle.dumps))
def test_any_pickle(content):
    hostile.told(pickles.load, io.BytesIO(content), "a.pkl", says="a.pkl")


def test_a_pickle_that_asks_for_memory():
    """The place in its memo is 2**32 - 2, and a text has 2**62 bytes."""
    for content in (b"\x80\x02Nr\xfe\xff\xff\xff.", b"\x80\x04\x8d" + struct.pack("<Q", 2**62)):
        hostile.told(pickles.load, io.BytesIO(content), "a.pkl", says="a.pkl")


@hostile.examples(100)
@given(hostile.damaged(files.zipped_pickles(SMALL, "notmnist_{}.pkl")))
def test_any_zip(folder, content):
    (folder / "notmnist.zip").write_bytes(content)
    members = ("notmnist_train.pkl", "notmnist_test.pkl")
    with pytest.MonkeyPatch.context() as patch:
        source = sources.SOURCES["notmnist"]
        published = zipped.reader(source.origin, files.blob_id(content), *members)
        source = source._replace(read=published, keep=False)
        patch.setitem(sources.SOURCES, "notmnist", source)
        hostile.told(made, folder, "notmnist", says="notmnist")


KINDS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "EPS", "ICO", "PDF")
PICTURES = {k: saved(Image.fromarray(SMALL.x_train[0, ..., 0]).save, format=k) for k in KINDS}


@hostile.examples(200)
@given(
    st.sampled_from(KINDS).flatmap(lambda k: hostile.damaged(PICTURES[k])) | st.binary(max_size=60),
    st.sampled_from((".png", ".jpg", ".tif", ".PPM", ".webp")),
)
def test_any_image(tmp_path_factory, content, suffix):
    where = tmp_path_factory.getbasetemp() / "images"
    if not where.exists():
        files.write_folders(where / "mine", files.raw(n=16, side=6, channels=1, classes=2))
    path = where / "mine" / "train" / "class0" / f"0{suffix}"
    path.write_bytes(content)
    read(where, says="mine")
    path.unlink()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header declares more pixels than it has."""
    content = bytearray(PICTURES["PNG"])
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("size", [(50000, 50000), (13000, 13000), (10000, 8000)])
def test_an_image_that_declares_too_many_pixels(tmp_path, size):
    files.write_folders(tmp_path / "mine", SMALL)
    first = tmp_path / "mine" / "train" / "class0" / "0.png"
    first.write_bytes(bomb(*size))
    assert not read(tmp_path, says="mine")
    first.rename(tmp_path / "mine" / "test" / "class0" / "zz.png")
    assert not read(tmp_path, says="zz.png")


def test_what_else_may_lie_in_folders(tmp_path):
    """Loops, pipes, folders named like images, odd names: refused or left out, not waited for."""
    files.write_folders(tmp_path / "mine", SMALL)
    inside = tmp_path / "mine" / "train" / "class0"
    (inside / "loop").symlink_to(tmp_path / "mine")
    (inside / "deep" / " ö\n.d").mkdir(parents=True)
    (inside / "readme.txt").write_text("no image")
    (tmp_path / "mine" / "train" / ".hidden").mkdir()
    assert len(made(tmp_path)) == 2
    for make in (
        os.mkfifo,
        Path.mkdir,
        lambda p: p.symlink_to(p),
        lambda p: p.symlink_to("/dev/zero"),
    ):
        make(inside / "x.png")
        assert not read(tmp_path, says="x.png: not a readable image")
        (inside / "x.png").rmdir() if (inside / "x.png").is_dir() else (inside / "x.png").unlink()
    os.mkfifo(tmp_path / "pipe.npz")
    assert not hostile.told(made, tmp_path, "pipe", says="pipe.npz: not a readable .npz file")
    (tmp_path / "both.npz").mkdir()
    assert not hostile.told(made, tmp_path, "both", says="both.npz: not a readable .npz file")
