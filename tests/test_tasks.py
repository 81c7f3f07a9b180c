"""Tasks: which images, classes, orders and normalisation every experiment has."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hatjax import config, data
from hatjax.data import feed, npz, tasks
from hatjax.data.tasks import holdout, images
from hatjax.errors import InputError
from hatjax.types import Split, Task
from tests import raw_files as files

CONFIGS = Path(__file__).parents[1] / "configs"
GOLDEN = Path(__file__).parent / "golden"
MIXTURE = {  # name: side, channels, classes
    "cifar10": (32, 3, 10),
    "cifar100": (32, 3, 100),
    "mnist": (28, 1, 10),
    "svhn": (32, 3, 10),
    "fashion_mnist": (28, 1, 10),
    "gtsrb": (32, 3, 43),
    "facescrub": (32, 3, 100),
    "notmnist": (32, 1, 10),
}

CIFAR = [f"cifar10 {i}-{i + 1}" for i in range(0, 10, 2)]
CIFAR += [f"cifar100 {i}-{i + 19}" for i in range(0, 100, 20)]


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A data root with a small set for each of the mixture; images of no two are alike."""
    where = tmp_path_factory.mktemp("root")
    for i, (name, (side, channels, classes)) in enumerate(MIXTURE.items()):
        npz.write(where / f"{name}.npz", files.raw(10 * classes, side, channels, classes, seed=i))
    return where


def settings(root, experiment: str, **changes):
    c = config.make(experiment, "hat")
    c.data.root = str(root)
    c.update_from_flattened_dict(changes)
    config.check(c)
    return c


def rows(x: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in np.ascontiguousarray(x)]


def parts(task: Task) -> list[Split]:
    return [task.train, task.valid, task.test]


# The mixture.


@pytest.mark.parametrize("fidelity", ["paper", "code"])
def test_mixture(root, fidelity):
    c = settings(root, "mixture", fidelity=fidelity, seed=3)
    got = tasks.make(c)
    names = [config.MIXTURE[i] for i in holdout.order(8, 3)]
    assert [task.name for task in got] == names and tuple(MIXTURE) == config.MIXTURE
    for task in got:
        classes = MIXTURE[task.name][2]
        assert task.classes == classes
        held = int(0.15 * 10 * classes)
        assert [len(s.y) for s in parts(task)] == [10 * classes - held, held, 5 * classes]
        for s in parts(task):
            assert s.x.shape == (len(s.y), 32, 32, 3) and s.x.dtype == np.uint8
            assert s.y.min() >= 0 and s.y.max() < classes
        assert task.mean.shape == task.std.shape == (3,)


def test_mixture_has_the_published_normalisation(root):
    constants = {
        "cifar10": ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]),
        "cifar100": ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]),
        "mnist": ([25.5] * 3, [70.176] * 3),
        "svhn": ([111.6135, 113.169, 120.564], [50.49, 51.255, 50.235]),
        "fashion_mnist": ([55.845] * 3, [84.609] * 3),
        "gtsrb": ([86.649, 79.4835, 81.855], [70.2525, 67.4985, 69.156]),
        "facescrub": ([131.6565, 142.0095, 119.7225], [58.8285, 57.936, 63.2145]),
        "notmnist": ([108.477] * 3, [114.7755] * 3),
    }
    for task in tasks.make(settings(root, "mixture")):
        np.testing.assert_allclose(task.mean, constants[task.name][0], rtol=1e-6)
        np.testing.assert_allclose(task.std, constants[task.name][1], rtol=1e-6)


def test_every_image_is_in_one_split(root):
    raw = data.load("gtsrb", root)
    (task,) = tasks.make(settings(root, "mixture", **{"data.sets": ("gtsrb",)}))
    train, valid = rows(task.train.x), rows(task.valid.x)
    assert not set(train) & set(valid) and sorted(train + valid) == sorted(rows(raw.x_train))
    label = dict(zip(rows(raw.x_train), raw.y_train, strict=True))
    assert [label[r] for r in train + valid] == [*task.train.y, *task.valid.y]
    np.testing.assert_array_equal(task.test.x, raw.x_test)
    np.testing.assert_array_equal(task.test.y, raw.y_test)


def test_validation_is_what_the_seed_holds_out(root):
    raw = data.load("cifar10", root)
    for seed in (0, 5):
        c = settings(root, "mixture", fidelity="code", seed=seed, **{"data.sets": ("cifar10",)})
        places = holdout.order(100, seed)
        (task,) = tasks.make(c)
        np.testing.assert_array_equal(task.valid.x, raw.x_train[places[:15]])
        np.testing.assert_array_equal(task.train.x, raw.x_train[places[15:]])


def test_grey_images_get_a_margin_and_three_channels(root):
    raw = data.load("mnist", root)
    (task,) = tasks.make(settings(root, "mixture", **{"data.sets": ("mnist",)}))
    for c in range(3):
        np.testing.assert_array_equal(task.test.x[:, 2:-2, 2:-2, c], raw.x_test[..., 0])
    assert task.test.x.sum() == 3 * raw.x_test.sum(dtype=int)


def test_repeated_channels_take_no_memory(root):
    for task in tasks.make(settings(root, "mixture")):
        for s in parts(task):
            assert (s.x.strides[-1] == 0) == (MIXTURE[task.name][1] == 1)


def test_repeated_channels_reach_the_device(root):
    c = settings(root, "mixture", **{"data.sets": ("mnist", "cifar10")})
    got = tasks.make(c)
    for t, task in enumerate(got):
        x = feed.put(got, t, "test", 64).x[0]
        assert x.shape == (64, 32, 32, 3)
        np.testing.assert_array_equal(x[: len(task.test.y)], task.test.x)


def test_notmnist_of_28_pixels_is_resized_as_published(root, tmp_path):
    npz.write(tmp_path / "notmnist.npz", files.raw(60, 28, 1))
    (task,) = tasks.make(settings(tmp_path, "mixture", **{"data.sets": ("notmnist",)}))
    assert task.train.x.shape[1:] == (32, 32, 3) and task.train.x[:, :2].any()


@pytest.mark.parametrize("side, channels", [(20, 1), (48, 3), (9, 3), (32, 3)])
def test_other_sizes_are_resized(tmp_path, side, channels):
    raw = files.raw(60, side, channels)
    flat = raw._replace(x_train=raw.x_train // 255 + 77)  # an even image stays what it is
    npz.write(tmp_path / "mine.npz", flat)
    (task,) = tasks.make(settings(tmp_path, "mixture", **{"data.sets": ("mine",)}))
    assert task.train.x.shape == (51, 32, 32, 3)
    assert set(np.unique(task.train.x)) <= {77, 78}
    assert task.mean.shape == (3,) and np.all(abs(task.mean - 77) < 1)


def test_a_set_of_other_channels(tmp_path):
    npz.write(tmp_path / "mine.npz", files.raw(60, 32, 4))
    with pytest.raises(InputError, match="'mine' has images of 4 channels: config.data.image"):
        tasks.make(settings(tmp_path, "mixture", **{"data.sets": ("mine",)}))


def test_sets_of_several_sizes_without_a_common_one(root):
    c = settings(root, "mixture", **{"data.sets": ("mnist", "cifar10"), "data.image": ()})
    with pytest.raises(InputError, match="bring them to one shape, as with --config.data.image"):
        tasks.make(c)


def test_a_missing_set_names_what_leaves_it_out(root, monkeypatch):
    c = settings(root, "mixture", **{"data.sets": ("mnist", "flowers", "gtsrb")})
    with pytest.raises(InputError, match="'flowers'") as caught:
        tasks.make(c)
    assert str(caught.value).endswith("""--config.data.sets="('mnist', 'gtsrb')\"""")
    assert str(root) in str(caught.value)


def test_any_set_can_join(root, tmp_path):
    for name in ("mnist", "svhn"):
        (tmp_path / f"{name}.npz").symlink_to(root / f"{name}.npz")
    files.write_folders(tmp_path / "mine", files.raw(12, 40, 3))
    c = settings(tmp_path, "mixture", seed=1, **{"data.sets": ("mine", "mnist", "svhn")})
    names = np.array(["mine", "mnist", "svhn"])[holdout.order(3, 1)]
    assert [task.name for task in tasks.make(c)] == list(names)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 30])
def test_a_folder_becomes_what_a_file_becomes(tmp_path, side, channels):
    """Grey images of 28x28 get a margin, others are resized; also when they are read one by one."""
    raw = files.raw(60, side, channels)
    order = [np.argsort(y, kind="stable") for y in (raw.y_train, raw.y_test)]
    arrays = {"x_train": raw.x_train[order[0]], "x_test": raw.x_test[order[1]]}
    labels = {"y_train": np.sort(raw.y_train), "y_test": np.sort(raw.y_test)}
    npz.write(tmp_path / "file.npz", raw._replace(**arrays, **labels))
    for split, x, y in (("train", raw.x_train, raw.y_train), ("test", raw.x_test, raw.y_test)):
        for i, (image, label) in enumerate(zip(x, y, strict=True)):
            path = tmp_path / "folder" / split / str(label) / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image if channels == 3 else image[..., 0]).save(path)
    file, folder = (
        tasks.make(settings(tmp_path, "mixture", **{"data.sets": (name,)}))[0]
        for name in ("file", "folder")
    )
    assert file.train.x.shape[1:] == (32, 32, 3)
    np.testing.assert_array_equal(file.train.x, folder.train.x)
    np.testing.assert_array_equal(file.test.x, folder.test.x)


def test_other_numbers_are_brought_to_one_shape(tmp_path):
    """Floats stay floats, whatever channels they have."""
    x, y = np.random.default_rng(0).random((30, 9, 9, 5)), np.arange(30) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    c = settings(tmp_path, "mixture", **{"data.sets": ("mine",), "data.image": (18, 12, 5)})
    (task,) = tasks.make(c)
    assert task.test.x.shape == (30, 18, 12, 5) and task.test.x.dtype == np.float32
    np.testing.assert_allclose(task.test.x.mean((1, 2)), x.mean((1, 2)), atol=0.02)
    np.testing.assert_allclose(task.mean, task.train.x.mean((0, 1, 2)), atol=0.02)


def test_facescrub_is_scrambled_as_the_published_code_has_it(root):
    x = data.load("facescrub", root).x_test
    sets = {"data.sets": ("facescrub",)}
    (paper,) = tasks.make(settings(root, "mixture", **sets))
    np.testing.assert_array_equal(paper.test.x, x)
    (code,) = tasks.make(settings(root, "mixture", fidelity="code", **sets))
    channels_first = x.reshape(-1, 3, 32, 32)  # the bytes of "h w c", taken for "c h w"
    np.testing.assert_array_equal(code.test.x.transpose(0, 3, 1, 2), channels_first)


# Incremental CIFAR.


@pytest.mark.parametrize("fidelity, held", [("paper", 0.15), ("code", 0.10)])
def test_cifar(root, fidelity, held):
    got = tasks.make(settings(root, "cifar", fidelity=fidelity, seed=2))
    assert [task.name for task in got] == [CIFAR[i] for i in holdout.order(10, 2)]
    for task in got:
        name, classes = task.name.split()
        first, last = map(int, classes.split("-"))
        n = 10 * task.classes
        assert task.classes == last - first + 1 == {"cifar10": 2, "cifar100": 20}[name]
        assert len(task.valid.y) == int(held * n) and len(task.train.y) == n - len(task.valid.y)
        raw = data.load(name, root)
        label = dict(zip(rows(raw.x_train), raw.y_train, strict=True))
        for s in (task.train, task.valid):
            assert [label[r] - first for r in rows(s.x)] == list(s.y)
        np.testing.assert_allclose(task.mean, [125.3, 123.0, 113.9])


def test_a_task_keeps_the_order_of_its_set(root):
    raw = data.load("cifar10", root)
    got = tasks.make(settings(root, "cifar", fidelity="code"))
    task = next(task for task in got if task.name == "cifar10 4-5")
    mine = raw.x_train[(raw.y_train == 4) | (raw.y_train == 5)]
    np.testing.assert_array_equal(task.valid.x, mine[holdout.order(20, 0)[:2]])


@pytest.mark.parametrize("experiment", ["cifar", "mixture"])
@pytest.mark.parametrize("n", [1000, 5000, 10000, 39209, 50000])
def test_splits_of_the_published_code(experiment, n):
    z = np.load(GOLDEN / "tasks.npz")
    x, y = np.zeros((n, 1, 1, 1), np.uint8), np.arange(n)
    for k, seed in enumerate(z["seeds"]):
        c = settings(".", experiment, fidelity="code", seed=int(seed))
        train, valid = holdout.hold_out(c, x, y)
        assert len(valid.y) == z[f"{experiment}/nvalid/{n}"][k]
        np.testing.assert_array_equal(valid.y[:20], z[f"{experiment}/valid/{n}"][k])
        np.testing.assert_array_equal(train.y[:20], z[f"{experiment}/train/{n}"][k])


@pytest.mark.parametrize("experiment", ["cifar", "mixture"])
def test_orders_of_the_published_code(root, experiment):
    z = np.load(GOLDEN / "tasks.npz")
    listed = {"mixture": config.MIXTURE, "cifar": CIFAR}[experiment]
    for k, seed in enumerate(z["seeds"]):
        got = tasks.make(settings(root, experiment, fidelity="code", seed=int(seed)))
        assert [task.name for task in got] == [listed[i] for i in z[f"{experiment}/order"][k]]


# Compression.


def test_compression(root):
    c = settings(root, "compression")
    assert (c.approach.c, c.approach.gate_init) == (1.5, "uniform")
    (task,) = tasks.make(c)
    assert task.name == "cifar10" and task.train.x.shape[1:] == (32, 32, 3)
    assert "c" not in config.make("compression", "sgd").approach


@pytest.mark.parametrize("name", ["svhn", "facescrub", "notmnist"])
def test_compression_of_any_set(root, name):
    c = runpy.run_path(str(CONFIGS / "hat_compression.py"))["get_config"](name)
    c.data.root = str(root)
    (task,) = tasks.make(c)
    assert task.name == name and c.experiment == f"compression-{name}"


@pytest.mark.parametrize("name, count", [("hat_cifar", 10), ("hat_mixture", 8)])
def test_configuration_files(root, name, count):
    c = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    c.data.root = str(root)
    config.check(c)
    assert len(tasks.make(c)) == count
    assert c.network.to_dict() == {
        "name": "alexnet",
        "widths": (64, 128, 256, 2048, 2048),
        "dropout": (0.2, 0.2, 0.5, 0.5, 0.5),
        "conv": "auto",
    }


# The MNIST experiments.


def test_mnist2(root):
    got = tasks.make(settings(root, "mnist2"))
    assert [task.name for task in got] == ["mnist 0-4", "mnist 5-9"]
    for task in got:
        assert [len(s.y) for s in parts(task)] == [43, 7, 25] and task.classes == 5
        np.testing.assert_allclose([task.mean, task.std], [[33.3285], [78.5655]], rtol=1e-6)


@pytest.mark.parametrize("experiment", ["mnist2", "pmnist"])
def test_the_published_code_validates_on_the_training_images(root, experiment):
    for task in tasks.make(settings(root, experiment, fidelity="code")):
        assert task.valid is task.train


def test_permutations_are_bijections_that_belong_to_the_seed(root):
    first, again, other = (
        np.stack([task.pixels for task in tasks.make(settings(root, "pmnist", seed=s))])
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(np.sort(first), np.tile(np.arange(784), (10, 1)))
    np.testing.assert_array_equal(first, again)
    assert len({p.tobytes() for p in [*first, *other]}) == 20


def test_permuted_tasks_share_their_images(root):
    got = tasks.make(settings(root, "pmnist"))
    assert all(task.train is got[0].train for task in got)
    x = feed.put(got, 4, "test", 50).x
    want = got[4].test.x.reshape(50, -1)[:, got[4].pixels]
    np.testing.assert_array_equal(np.reshape(x, (50, -1)), want)


def test_permuted_colour_of_grey_images(root):
    c = settings(root, "pmnist", **{"data.image": (32, 32, 3)})
    got = tasks.make(c)
    assert got[0].pixels.shape == (3072,) and got[0].mean.shape == (3,)
    assert feed.put(got, 1, "test", 50).x.shape == (1, 50, 32, 32, 3)


@pytest.mark.parametrize("shape", [(1, 1, 12), (4, 4, 3), (5, 5, 1)])
def test_permuted_numbers_are_normalised_by_what_they_are(shape, tmp_path):
    """Channels of other sizes: those of a vector keep theirs, those of an image are mixed."""
    rng, (h, w, c) = np.random.default_rng(0), shape
    x = rng.normal(10 * np.arange(c), 1 + np.arange(c), (400, *shape))
    y = np.arange(400) % 2
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    got = tasks.make(settings(tmp_path, "own-permuted2"))
    for t in range(2):
        data = feed.put(got, t, "train", 400)
        inputs = np.asarray(feed.batch(data, None, 0, 400).x)[: data.n]
        of = (0,) if h == w == 1 else None
        np.testing.assert_allclose(inputs.mean(of), 0, atol=0.2)
        np.testing.assert_allclose(inputs.std(of), 1, atol=0.2)


def test_permuted_tasks_have_one_set(root):
    with pytest.raises(InputError, match="permuted tasks need exactly one name"):
        tasks.make(settings(root, "pmnist", **{"data.sets": ("mnist", "cifar10")}))


# What all have in common.


@pytest.mark.parametrize(
    "experiment, fidelity, held",
    [
        ("mixture", "paper", 9),
        ("mixture", "code", 9),
        ("mnist2", "paper", 6),
        ("mnist2", "code", 0),
        ("pmnist", "paper", 9),
        ("pmnist", "code", 0),
    ],
)
def test_a_sample_of_each_task(root, experiment, fidelity, held):
    n = 40 if experiment == "mnist2" else 60
    changes = {"fidelity": fidelity, "data.sets": ("mnist",)}
    every = tasks.make(settings(root, experiment, **changes))
    sample = tasks.make(settings(root, experiment, **changes, **{"data.examples": n}))
    for task, whole in zip(sample, every, strict=True):
        valid = task.valid if held else Split(task.valid.x[:0], task.valid.y[:0])
        assert len(valid.y) == held and len(task.train.y) == n - held
        drawn = rows(task.train.x) + rows(valid.x)
        assert len(set(drawn)) == n and set(drawn) <= set(rows(whole.train.x) + rows(whole.valid.x))
        np.testing.assert_array_equal(task.test.y, whole.test.y)


def test_one_class_a_task(root):
    got = tasks.make(settings(root, "mnist2", **{"tasks.count": 10}))
    assert [task.name for task in got] == [f"mnist {i}" for i in range(10)]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"tasks.count": 11}, "at most 10"),
        ({"data.examples": 1}, "no valid images: .* each class keeps one"),
        ({"data.examples": 3}, "no valid images"),
        ({"data.examples": 8}, "no train image of its class"),
    ],
)
def test_tasks_that_cannot_be(root, changes, words):
    with pytest.raises(InputError, match=words):
        tasks.make(settings(root, "mnist2", **changes))


def test_take_keeps_views():
    x = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    wide = images.repeated(x, 3)
    got = images.take(wide, np.array([True, False]))
    assert got.strides[-1] == 0 and got.base is not None
    np.testing.assert_array_equal(got, wide[:1])
    assert images.take(x, np.array([1])).shape == (1, 2, 2, 1)


@pytest.mark.parametrize(
    "field, value",
    [
        ("data.image", (32, 32)),
        ("data.image", (32, 32, 0)),
        ("tasks.valid_code", 1.0),
        ("network.dropout", (0.2, 1.0)),
        ("data.sets", ()),
    ],
)
def test_settings_out_of_range(field, value):
    c = config.make("mixture", "hat")
    c.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=f"config.{field}"):
        config.check(c)


@pytest.mark.data
def test_the_real_mixture():
    where = data.root("")
    here = tuple(n for n in config.MIXTURE if n in data.found(where))
    if not here or "HATJAX_DATA" not in os.environ:
        pytest.skip("no set of the mixture in HATJAX_DATA")
    for task in tasks.make(settings(where, "mixture", **{"data.sets": here})):
        x = task.train.x[:2000].astype(np.float32)
        z = (x - task.mean) / task.std
        assert np.all(abs(z.mean((0, 1, 2))) < 0.1) and np.all(abs(z.std((0, 1, 2)) - 1) < 0.1)
