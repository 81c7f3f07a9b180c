"""Image sets as folders: which files count, how classes are numbered, sizes, what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hatjax import data
from hatjax.data import npz
from hatjax.errors import InputError
from tests import raw_files as files
from tests.test_data import error, same


@pytest.mark.parametrize("channels", [1, 3])
def test_folders(tmp_path, channels):
    want = files.raw(side=9, channels=channels)
    files.write_folders(tmp_path / "mine", want)
    got = data.load("mine", tmp_path)
    assert got.x_train.shape == want.x_train.shape and got.classes == 3
    np.testing.assert_array_equal(got.y_train, np.sort(want.y_train))
    by_class = np.argsort(want.y_test, kind="stable")
    np.testing.assert_array_equal(got.x_test, want.x_test[by_class])


def tiny_imagenet(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A set of two classes as TinyImageNet's archive has it; what is to be read to test."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (6, 8, 8, 3), np.uint8), np.array([1, 0, 0, 1, 1, 0])

    def write(path: Path, image: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    for name in ("n01", "n02"):
        write(folder / "train" / name / "images" / f"{name}_0.png", x[0])
        (folder / "train" / name / f"{name}_boxes.txt").write_text("")
    for i, image in enumerate(x):
        write(folder / "val" / "images" / f"val_{i}.png", image)
    lines = [f"val_{i}.png\tn0{c + 1}\t0\t0\t7\t7\n" for i, c in enumerate(y)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    write(folder / "test" / "images" / "test_0.png", x[0])  # without a label
    return x, y


def test_tiny_imagenet_as_it_comes(tmp_path):
    x, y = tiny_imagenet(tmp_path / "mine")
    got = data.load("mine", tmp_path)
    np.testing.assert_array_equal(got.x_test, x)
    np.testing.assert_array_equal(got.y_test, y)
    np.testing.assert_array_equal(got.y_train, [0, 1])


@pytest.mark.parametrize("line", ["val_0.png n01", "val_0.png\tn03\t0", "../x.png\tn01", ""])
def test_a_damaged_list_of_tiny_imagenet(tmp_path, line):
    tiny_imagenet(tmp_path / "mine")
    (tmp_path / "mine" / "val" / "val_annotations.txt").write_text(line)
    with pytest.raises(InputError, match="val_annotations.txt(, line 1: expected| is empty)"):
        data.load("mine", tmp_path)


def test_folders_of_other_sizes(tmp_path):
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    Image.new("RGB", (8, 7)).save(tmp_path / "mine" / "test" / "class1" / "0.png")
    message = error(data.load, "mine", tmp_path)
    assert re.search(r"class1/0\.png: 8x7 pixels, but .* begins with 9x9", message)


def test_folders_with_an_unreadable_image(tmp_path):
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    (tmp_path / "mine" / "train" / "class0" / "x.png").write_bytes(b"no image")
    assert "x.png: not a readable image" in error(data.load, "mine", tmp_path)


def test_folders_without_a_class(tmp_path):
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    for path in (tmp_path / "mine" / "test" / "class2").iterdir():
        path.unlink()
    assert "class2: no images" in error(data.load, "mine", tmp_path)
    (tmp_path / "mine" / "test" / "class2").rmdir()
    assert "only one of train and test: class2" in error(data.load, "mine", tmp_path)


@pytest.mark.parametrize(
    "hidden",
    [
        "mine/train/class1/.ipynb_checkpoints/0-checkpoint.png",
        "mine/train/class1/__MACOSX/0.png",
        "mine/train/class1/._0.png",
        "mine/train/.ipynb_checkpoints/0.png",
        "mine/test/__MACOSX/class1/0.png",
        "mine/test/Thumbs.db/0.png",
        ".mine/train/class1/0.png",
        "__MACOSX/train/class1/0.png",
        "._mine.npz",
    ],
)
def test_hidden_copies_are_no_images(tmp_path, hidden):
    root = tmp_path / ".cache"  # a root may be hidden
    files.write_folders(root / "mine", files.raw(side=9))
    want = data.load("mine", root)
    path = root / hidden
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(path, "PNG")
    same(data.load("mine", root), want)
    assert data.found(root) == ["mine"]


@pytest.mark.parametrize(
    "names, order",
    [
        ([str(i) for i in range(1, 13)], [str(i) for i in range(1, 13)]),
        (["2", "10", "1"], ["1", "2", "10"]),
        (["007", "08", "9", "10"], ["007", "08", "9", "10"]),
        (["10", "9", "other"], ["9", "10", "other"]),
        (["b", "a", "B"], ["B", "a", "b"]),
        (["c10", "c2"], ["c10", "c2"]),  # as torchvision's ImageFolder has them
    ],
)
def test_classes_are_in_order_and_keep_their_names(tmp_path, caplog, names, order):
    for i, name in enumerate(names):
        for split in ("train", "test"):
            (tmp_path / "mine" / split / name).mkdir(parents=True)
            Image.new("L", (4, 4), 10 * i).save(tmp_path / "mine" / split / name / "0.png")
    got = data.load("mine", tmp_path)
    assert got.names == tuple(order) and list(got.y_train) == list(range(len(names)))
    assert [10 * names.index(name) for name in order] == list(got.x_test[:, 0, 0, 0])
    assert ("in the order of their numbers: " in caplog.text) == (order != sorted(order))


def test_folders_of_one_set_with_grey_and_colour(tmp_path):
    """LA and 16-bit images are grey, too; one in colour makes the set RGB."""
    files.write_folders(tmp_path / "mine", files.raw(side=9, channels=1))
    inside = tmp_path / "mine" / "train" / "class0"
    Image.new("LA", (9, 9), (70, 255)).save(inside / "la.png")
    Image.new("I;16", (9, 9), 65535).save(inside / "wide.png")
    got = data.load("mine", tmp_path)
    assert got.x_train.shape[1:] == (9, 9, 1)
    assert {70, 255} <= {int(x.max()) for x in got.x_train if len(np.unique(x)) == 1}
    Image.new("RGB", (9, 9), (1, 2, 3)).save(inside / "rgb.png")
    assert data.load("mine", tmp_path).x_train.shape[1:] == (9, 9, 3)


def test_a_folder_beside_a_file(tmp_path):
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    npz.write(tmp_path / "mine.npz", files.raw(side=9))
    message = error(data.load, "mine", tmp_path)
    assert str(tmp_path / "mine.npz") in message and f"the folder {tmp_path / 'mine'}:" in message
    (tmp_path / "mine.npz").unlink()
    assert data.load("mine", tmp_path).x_train.shape == (12, 9, 9, 3)


def test_a_folder_of_mixed_sizes_is_resized_where_it_is_asked(tmp_path):
    raw = files.raw(side=9)
    files.write_folders(tmp_path / "mine", raw)
    first = tmp_path / "mine" / "train" / "class0" / "0.png"
    for size in ((20, 30), (5, 28), (1, 1)):
        Image.new("RGB", size, (10, 20, 30)).save(first)
        assert '--config.data.image="(32,32,3)"' in error(data.load, "mine", tmp_path)
        got = data.load("mine", tmp_path, (8, 7))
        assert got.x_train.shape == (12, 8, 7, 3) and got.x_test.shape == (6, 8, 7, 3)
        assert (got.x_train[0] == (10, 20, 30)).all()
        want = Image.fromarray(raw.x_train[3]).resize((7, 8), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(got.x_train[1], np.asarray(want))
    Image.new("L", (13, 9), 7).save(first)  # all others of 9x9, as for a margin to 13x13
    assert data.load("mine", tmp_path, (13, 13)).x_train.shape == (12, 13, 13, 3)


def test_turned_photos_have_two_sizes(tmp_path):
    """Their headers tell one."""
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted((tmp_path / "mine").rglob("*.png")):
        Image.new("RGB", (9, 6)).save(path, exif=exif if path.name == "0.png" else None)
    message = error(data.load, "mine", tmp_path)
    assert re.search(r"class0/\d+\.png: 9x6 pixels, but .* begins with 6x9", message)
    assert data.load("mine", tmp_path, (9, 6)).x_train.shape == (12, 9, 6, 3)
