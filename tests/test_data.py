"""Image sets from files, in the formats of the public ones, and what is said of files that fail."""

import io
import os
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hatjax import data
from hatjax.data import npz, pickles, sources, vision, zipped
from hatjax.data.raw import ARRAYS, Raw
from hatjax.errors import InputError
from tests import raw_files as files

DATA = Path(os.environ.get("HATJAX_DATA", "."))


def same(got: Raw, want: Raw) -> None:
    for k in Raw._fields:
        np.testing.assert_array_equal(getattr(got, k), getattr(want, k), err_msg=k)
    assert got.x_train.dtype == got.x_test.dtype == np.uint8
    assert got.y_train.dtype == got.y_test.dtype == np.int32


def error(action, *args) -> str:
    """The message of the InputError that `action` raises, which is one line."""
    with pytest.raises(InputError) as caught:
        action(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def offline(monkeypatch):
    """No test reaches for the network, whatever it does wrong."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


# The readers, on files as the public sets have them.


@pytest.mark.parametrize("name, kind", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx(tmp_path, name, kind):
    want = files.raw(side=28, channels=1)
    files.write_idx(tmp_path / kind / "raw", want)
    same(data.load(name, tmp_path), want)


def test_cifar10(tmp_path, monkeypatch):
    want, folder = files.raw(n=20), tmp_path / "cifar-10-batches-py"
    parts = {f"data_batch_{i + 1}": slice(4 * i, 4 * i + 4) for i in range(5)}
    batches = {k: (want.x_train[v], want.y_train[v]) for k, v in parts.items()}
    files.write_cifar(folder, batches | {"test_batch": (want.x_test, want.y_test)}, "labels")
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c"]}))
    cls = vision.datasets().CIFAR10
    monkeypatch.setattr(cls, "train_list", [[k, files.md5(folder / k)] for k in parts])
    monkeypatch.setattr(cls, "test_list", [["test_batch", files.md5(folder / "test_batch")]])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": files.md5(folder / "batches.meta")})
    same(data.load("cifar10", tmp_path), want)


def test_cifar100(tmp_path, monkeypatch):
    want = files.raw()
    files.write_cifar_100(tmp_path / "cifar-100-python", want, monkeypatch)
    same(data.load("cifar100", tmp_path), want)


def test_svhn_labels_are_the_digits(tmp_path, monkeypatch):
    want = files.raw(n=20, classes=10)
    files.write_svhn(tmp_path, want)
    names = {s: f"{s}_32x32.mat" for s in ("train", "test")}
    known = {s: ["http://127.0.0.1", f, files.md5(tmp_path / f)] for s, f in names.items()}
    monkeypatch.setattr(vision.datasets().SVHN, "split_list", known)
    got = data.load("svhn", tmp_path)
    same(got, want)
    assert got.x_train.flags.c_contiguous


@pytest.mark.parametrize("training", ["Training", "Final_Training/Images"])
def test_gtsrb_is_resized(tmp_path, training, monkeypatch):
    want = files.raw()
    files.write_gtsrb(tmp_path / "gtsrb", want, training)
    files.set_signs(monkeypatch, want)
    got = data.load("gtsrb", tmp_path)
    assert got.x_train.shape == want.x_train.shape
    np.testing.assert_array_equal(np.bincount(got.y_train), np.bincount(want.y_train))
    np.testing.assert_array_equal(got.x_test, want.x_test)  # 32x32 already
    np.testing.assert_array_equal(got.y_test, want.y_test)


def test_gtsrb_has_all_training_images_where_they_lie(tmp_path, monkeypatch):
    files.write_gtsrb(tmp_path / "gtsrb", files.raw(n=12), "Final_Training/Images")
    files.set_signs(monkeypatch, files.raw(n=12))
    (tmp_path / "gtsrb" / "GTSRB" / "Training" / "00000").mkdir(parents=True)
    assert len(data.load("gtsrb", tmp_path).y_train) == 12


@pytest.mark.parametrize("training", ["Training", "Final_Training/Images"])
def test_gtsrb_with_hidden_copies(tmp_path, training, monkeypatch):
    """torchvision takes such a folder for the first class."""
    files.write_gtsrb(tmp_path / "gtsrb", files.raw(n=12), training)
    files.set_signs(monkeypatch, files.raw(n=12))
    hidden = tmp_path / "gtsrb" / "GTSRB" / training / ".ipynb_checkpoints"
    hidden.mkdir()
    Image.new("RGB", (32, 32)).save(hidden / "0-checkpoint.ppm")
    np.testing.assert_array_equal(data.load("gtsrb", tmp_path).y_train, np.repeat([0, 1, 2], 4))


def test_gtsrb_lacks_images(tmp_path):
    files.write_gtsrb(tmp_path / "gtsrb", files.raw(n=12))
    folder = tmp_path / "gtsrb" / "GTSRB" / "Training"
    assert f"{folder} has 12 images, not 26640" in error(data.load, "gtsrb", tmp_path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name, channels", [("facescrub", 3), ("notmnist", 1)])
def test_zip_of_pickles(tmp_path, monkeypatch, name, channels, protocol):
    want = files.raw(channels=channels)
    stem = {"facescrub": "facescrub_{}_100.pkl", "notmnist": "notmnist_{}.pkl"}[name]
    put_zip(tmp_path, monkeypatch, name, files.zipped_pickles(want, stem, protocol))
    same(data.load(name, tmp_path), want)  # the colours of a pixel lie side by side


def put_zip(where, monkeypatch, name: str, content: bytes) -> Path:
    """Put a zip file where hatjax looks for that of `name`, and make it the published one."""
    source = sources.SOURCES[name]
    path = where / source.files
    path.write_bytes(content)
    pair = {"facescrub": "facescrub_{}_100.pkl", "notmnist": "notmnist_{}.pkl"}[name]
    read = zipped.reader(
        source.origin, files.blob_id(content), pair.format("train"), pair.format("test")
    )
    monkeypatch.setitem(sources.SOURCES, name, source._replace(read=read))
    return path


@pytest.mark.parametrize(
    "name, blob",
    [
        ("facescrub", "82e8049801f91dea209129c3a5918b93d08a68eb"),
        ("notmnist", "7ee09830b8e387acc5bc730276f14650b1e08437"),
    ],
)
def test_only_the_published_zip_is_taken(tmp_path, name, blob):
    (tmp_path / sources.SOURCES[name].files).write_bytes(b"another file")
    assert f"expected {blob}" in error(data.load, name, tmp_path)


# NAME.npz: what a set becomes, and what is used as it is.


def test_a_set_is_converted_once(tmp_path):
    want = files.raw(side=28, channels=1)
    files.write_idx(tmp_path / "MNIST" / "raw", want)
    data.load("mnist", tmp_path)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.unlink()
    same(data.load("mnist", tmp_path), want)
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["MNIST", "mnist.npz"]


def test_a_file_that_is_there_is_used(tmp_path, offline):
    want = files.raw(side=5, classes=2)
    npz.write(tmp_path / "svhn.npz", want)
    same(data.load("svhn", tmp_path), want)


def test_a_data_root_that_is_only_read_from(tmp_path, monkeypatch, caplog):
    def refuse(**kwargs):
        raise PermissionError(13, "Read-only file system")

    want = files.raw(side=28, channels=1)
    files.write_idx(tmp_path / "MNIST" / "raw", want)
    monkeypatch.setattr(npz.tempfile, "mkstemp", refuse)
    same(data.load("mnist", tmp_path), want)
    assert "mnist is not kept" in caplog.text and not (tmp_path / "mnist.npz").exists()


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(npz.np, "savez", full)
    with pytest.raises(OSError):
        npz.write(tmp_path / "a.npz", files.raw())
    assert not list(tmp_path.iterdir())


def good() -> dict[str, np.ndarray]:
    return {k: getattr(files.raw(), k) for k in ARRAYS}


def gap(y):
    return np.where(y == 1, 7, y)


BAD_ARRAYS = {
    "no array y_test": lambda a: a.pop("y_test"),
    "x_train is float64 and x_test uint8": lambda a: a.update(x_train=a["x_train"] / 255),
    "x_train is complex128": lambda a: a.update(x_train=a["x_train"] * 1j),
    "not finite": lambda a: a.update(x_train=a["x_train"] + np.inf, x_test=a["x_test"] / 255),
    "classes is int64 of shape ()": lambda a: a.update(classes=3),
    "classes is <U1 of shape (2,)": lambda a: a.update(classes=["a", "b"]),
    "2 classes are called 'b'": lambda a: a.update(classes=["a", "b", "b"]),
    "x_test is uint8 of shape (6, 3072)": lambda a: a.update(x_test=a["x_test"].reshape(6, -1)),
    "y_train is float64": lambda a: a.update(y_train=a["y_train"] + 0.5),
    "y_test is int32 of shape (6, 1, 1)": lambda a: a.update(y_test=a["y_test"][:, None, None]),
    "12 images but 11 labels in train": lambda a: a.update(y_train=a["y_train"][:-1]),
    "is empty": lambda a: a.update(x_test=a["x_test"][:0], y_test=a["y_test"][:0]),
    "expected one shape": lambda a: a.update(x_test=a["x_test"][:, :28]),
    "0..classes-1 without gaps": lambda a: a.update(y_train=gap(a["y_train"])),
    "which y_train does not": lambda a: a.update(y_test=gap(a["y_test"])),
}


@pytest.mark.parametrize("words", BAD_ARRAYS)
def test_arrays_that_are_no_image_set(tmp_path, words):
    arrays = good()
    BAD_ARRAYS[words](arrays)
    np.savez(tmp_path / "mine.npz", **arrays)
    message = error(data.load, "mine", tmp_path)
    assert words in message and message.startswith(str(tmp_path / "mine.npz"))


def saved(save, *args, **arrays) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        saved(np.savez, **good())[:900],
        saved(np.savez, **good())[:-900],
        saved(np.save, np.zeros(9)),
        b"no archive",
        b"",
    ],
)
def test_files_that_are_no_archive(tmp_path, content):
    (tmp_path / "mine.npz").write_bytes(content)
    assert "not a readable .npz file" in error(data.load, "mine", tmp_path)


def test_an_archive_of_objects_is_not_executed(tmp_path):
    arrays = good() | {"y_train": np.array([Bomb(tmp_path)] * 12)}
    np.savez(tmp_path / "mine.npz", **arrays)
    assert "not a readable .npz file" in error(data.load, "mine", tmp_path)
    assert not (tmp_path / "boom").exists()


def test_grey_images_may_lack_the_channel_axis(tmp_path):
    want = files.raw(side=9, channels=1)
    arrays = want._replace(x_train=want.x_train[..., 0], x_test=want.x_test[..., 0])
    np.savez(tmp_path / "mine.npz", **arrays._asdict())
    same(data.load("mine", tmp_path), want)


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 28, 28), (3, 32, 64), (4, 8, 8), (2, 5, 9), (13, 64, 64), (96, 7, 7)]
)
def test_channels_first_is_asked_about(tmp_path, shape):
    """Read as they are, they would be strips of images with many channels."""
    x, y = np.zeros((6, *shape), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    message = error(data.load, "mine", tmp_path)
    assert f"x_train is of shape {x.shape}" in message and "transpose(0, 2, 3, 1)" in message
    arrays = {"x_train": x.transpose(0, 2, 3, 1), "x_test": x.transpose(0, 2, 3, 1)}
    np.savez(tmp_path / "mine.npz", y_train=y, y_test=y, **arrays)
    assert data.load("mine", tmp_path).x_train.shape == arrays["x_train"].shape


@pytest.mark.parametrize(
    "shape", [(8, 8, 3), (1, 1, 64), (1, 9, 3), (8, 8, 8), (3, 1, 64), (9, 4, 2)]
)
def test_channels_last_are_not_asked_about(tmp_path, shape):
    x, y = np.zeros((6, *shape), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert data.load("mine", tmp_path).x_train.shape == x.shape


@pytest.mark.parametrize("dtype", ["i8", "u2", "f4", "f8", "?"])
def test_images_of_other_numbers(tmp_path, dtype):
    """They keep their unit, as in hatjax.fit; a published mean is that of bytes, not theirs."""
    want = files.raw(side=28, channels=1)
    arrays = {k: getattr(want, k) for k in ARRAYS}
    for k in ("x_train", "x_test"):
        arrays[k] = (arrays[k] / (255 if dtype[0] == "f" else 1)).astype(dtype)
    np.savez(tmp_path / "mnist.npz", **arrays)
    got = data.load("mnist", tmp_path)
    assert got.x_train.dtype == got.x_test.dtype == np.float32
    np.testing.assert_array_equal(got.x_test, arrays["x_test"].astype(np.float32))
    mean, std = data.moments("mnist", got.x_train)
    np.testing.assert_allclose(mean, arrays["x_train"].mean(), rtol=1e-4)
    np.testing.assert_allclose(std, arrays["x_train"].std(), rtol=1e-4)


@pytest.mark.parametrize(
    "classes, names",
    [
        (["a", "b", "ö"], ("a", "b", "ö")),
        ([b"a", b"b", "ö".encode()], ("a", "b", "ö")),
        ([3, 1, 2], ("3", "1", "2")),
    ],
)
def test_the_names_of_the_classes_are_kept(tmp_path, classes, names):
    np.savez(tmp_path / "mine.npz", **good(), classes=classes)
    got = data.load("mine", tmp_path)
    assert got.names == names
    npz.write(tmp_path / "copy.npz", got)
    assert data.load("copy", tmp_path).names == got.names
    npz.write(tmp_path / "none.npz", files.raw())
    assert data.load("none", tmp_path).names is None


def test_names_beside_labels_that_are_text(tmp_path):
    y = np.array(["a", "b", "c"])
    arrays = good()
    words = {k: y[arrays[k]] for k in ("y_train", "y_test")}
    np.savez(tmp_path / "mine.npz", **arrays | words, classes=y)
    assert data.load("mine", tmp_path).names == ("a", "b", "c")
    np.savez(tmp_path / "mine.npz", **arrays | words, classes=y[::-1])
    with pytest.raises(InputError, match=r"labels are text \(a, b, c\), and classes names others"):
        data.load("mine", tmp_path)


@pytest.mark.parametrize("scaled", [1, 3])
def test_moments_of_binary_images(scaled):
    x = np.random.default_rng(0).integers(0, 2, (50, 4, 4, 3), np.uint8) * np.uint8(scaled)
    x[..., 2] = 7  # constant
    mean, std = data.moments("mine", x)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, [*x[..., :2].std((0, 1, 2)), 1], rtol=1e-5)


# What cannot be had.


@pytest.mark.parametrize("name", [n for n in sources.SOURCES if n != "digits"])
def test_a_set_that_cannot_be_had(tmp_path, offline, name):
    message = error(data.load, name, tmp_path)
    source = sources.SOURCES[name]
    for words in (repr(name), str(tmp_path), source.origin, source.files, "no network"):
        assert words in message


def test_an_unknown_set(tmp_path):
    npz.write(tmp_path / "flowers.npz", files.raw())
    message = error(data.load, "flower", tmp_path)
    assert "'flowers'" in message and "svhn" in message and str(tmp_path) in message


def test_damaged_public_files_say_so(tmp_path, offline):
    files.write_svhn(tmp_path, files.raw(n=20, classes=10))  # not the published checksum
    message = error(data.load, "svhn", tmp_path)
    assert f"read from {tmp_path} (files are missing, damaged or have a wrong checksum)" in message


@pytest.mark.parametrize("length", [0, 3, 10, 1000])
def test_truncated_public_files_say_so(tmp_path, offline, length):
    files.write_idx(tmp_path / "MNIST" / "raw", files.raw(side=28, channels=1))
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:length])
    message = error(data.load, "mnist", tmp_path)
    assert f"{path} is damaged: it has {length} bytes" in message and "remove it" in message


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    assert "--config.data.root" in error(data.load, "mnist", tmp_path)


def test_a_machine_without_a_home(monkeypatch):
    def refuse(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HATJAX_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", refuse)
    assert "no such home folder" in error(data.root, "")
    assert "~nobody: there is" in error(data.root, "~nobody")


# Zip files and pickles that are not what they should be.


def test_a_truncated_zip(tmp_path, monkeypatch):
    content = files.zipped_pickles(files.raw(channels=1), "notmnist_{}.pkl")
    path = put_zip(tmp_path, monkeypatch, "notmnist", content[: len(content) // 2])
    message = error(data.load, "notmnist", tmp_path)
    assert f"{path}: not a readable zip file" in message and "remove it" in message


def test_a_zip_with_a_damaged_member(tmp_path, monkeypatch):
    content = bytearray(files.zipped_pickles(files.raw(channels=1), "notmnist_{}.pkl"))
    content[2000:2100] = bytes(100)
    put_zip(tmp_path, monkeypatch, "notmnist", bytes(content))
    assert "not a readable" in error(data.load, "notmnist", tmp_path)


def test_a_zip_without_the_members(tmp_path, monkeypatch):
    put_zip(tmp_path, monkeypatch, "notmnist", files.zipped({"readme.txt": b"hello"}))
    message = error(data.load, "notmnist", tmp_path)
    assert "no notmnist_train.pkl in it, but readme.txt" in message


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, where: Path):
        self.where = where

    def __reduce__(self):
        return os.mkdir, (str(self.where / "boom"),)


def read_pickle(content: object, protocol: int = 2):
    return pickles.load(io.BytesIO(pickle.dumps(content, protocol)), "a.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_something_else_is_refused(tmp_path, protocol):
    message = error(read_pickle, {"features": Bomb(tmp_path)}, protocol)
    assert message.startswith("a.pkl: refused") and "mkdir" in message
    assert not (tmp_path / "boom").exists()


def test_a_zip_with_such_a_pickle_is_refused(tmp_path, monkeypatch):
    bomb = pickle.dumps({"features": Bomb(tmp_path), "labels": 0})
    put_zip(tmp_path, monkeypatch, "notmnist", files.zipped({"notmnist_train.pkl": bomb}))
    assert "refused" in error(data.load, "notmnist", tmp_path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    "value",
    [
        np.array([Bomb(Path("nowhere"))], object),
        np.array(["text"]),
        np.zeros(2, [("a", "u1")]),
        np.uint8(3),
        range(3),
        print,
        np.load,
    ],
)
def test_only_numeric_arrays_are_read(value):
    assert "refused" in error(read_pickle, {"features": value})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "?", "<f8"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_any_kind(dtype, order, protocol):
    want = np.arange(6).reshape(2, 3).astype(dtype, order=order)
    got = read_pickle({"a": want, "note": "left out"}, protocol)
    assert list(got) == ["a"]
    np.testing.assert_array_equal(got["a"], want)


def test_arrays_pickled_by_python_2():
    """What Python 2 wrote for {'a': numpy.array([[1, 2], [3, 200]], 'u1')} in protocol 2."""
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x02\x03\xc8tbs."
    )
    got = pickles.load(io.BytesIO(content), "a.pkl")
    np.testing.assert_array_equal(got["a"], np.array([[1, 2], [3, 200]], np.uint8))


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps({"a": np.zeros(9)})[:-20]])
def test_damaged_pickles(content):
    assert "not a readable pickle" in error(pickles.load, io.BytesIO(content), "a.pkl")


@pytest.mark.parametrize(
    "content, words",
    [
        ([1, 2], "a pickled list"),
        ({"features": np.zeros((2, 1, 4, 4))}, "expected a dict of 'features'"),
        ({"features": np.zeros((2, 16)), "labels": np.zeros(2)}, "expected a dict of 'features'"),
        ({"features": np.full((2, 1, 4, 4), 256.0), "labels": np.zeros(2)}, "beyond 0..255"),
        ({"features": np.full((2, 1, 4, 4), np.nan), "labels": np.zeros(2)}, "beyond 0..255"),
    ],
)
def test_pickles_of_something_else(tmp_path, monkeypatch, content, words):
    member = pickle.dumps(content)
    put_zip(tmp_path, monkeypatch, "notmnist", files.zipped({"notmnist_train.pkl": member}))
    assert words in error(data.load, "notmnist", tmp_path)


# Real sets.


@pytest.mark.data
@pytest.mark.parametrize(
    "name, shape, classes",
    [
        ("mnist", (60000, 28, 28, 1), 10),
        ("fashion_mnist", (60000, 28, 28, 1), 10),
        ("cifar10", (50000, 32, 32, 3), 10),
        ("cifar100", (50000, 32, 32, 3), 100),
        ("gtsrb", (39209, 32, 32, 3), 43),
    ],
)
def test_real_sets(name, shape, classes):
    if name not in data.found(DATA) and not (DATA / public_folder(name)).is_dir():
        pytest.skip(f"no {name} in HATJAX_DATA")
    got = data.load(name, DATA)
    assert got.x_train.shape == shape and got.classes == classes
    mean, _ = data.moments(name, got.x_train)
    # CIFAR-100 is normalised with CIFAR-10's constants.
    np.testing.assert_allclose(got.x_train.mean((0, 1, 2)), mean, atol=5)


def public_folder(name: str) -> str:
    return {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}.get(name, "nowhere")


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    raw = sources.digits(Path())
    x, y = load_digits(return_X_y=True)
    np.testing.assert_array_equal(raw.y_test, y[4::5])
    np.testing.assert_array_equal(raw.x_test.reshape(-1, 64), np.round(x[4::5] * (255 / 16)))
