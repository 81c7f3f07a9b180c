"""Images that stay on the host or on the disk: the same bits as in memory, or a refusal."""

import functools
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import hatjax
from hatjax import config, data, plans
from hatjax.config import APPROACHES
from hatjax.data import feed, folder, lazy, stream, tasks
from hatjax.data.tasks.fingerprint import fingerprints
from hatjax.errors import Diverged, InputError, Interrupted
from hatjax.experiment import description, run, stop
from hatjax.training import device_memory
from tests import raw_files as files
from tests.same import all_the_same, same
from tests.test_replicas import command
from tests.test_replicas import same as close


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    """Stretches of a few batches."""
    monkeypatch.setattr(stream, "BYTES", 3000)


def small(approach: str = "hat", **fields):
    """Two tasks of 85 training images, whose last batch has 5; validation's, of 15, has 7."""
    c = config.make("digits", approach)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 2, 3, (8, 6), 100
    c.batch, c.eval_batch = 16, 8
    c.update_from_flattened_dict(fields)
    return c


def both(where, c) -> None:
    """Trains `c` in memory and streamed, in the folders "no" and "yes"."""
    for how in ("no", "yes"):
        c.data.stream = how
        run.run_sweep(where / how, plans.replicas(c), quiet=True)


@pytest.mark.parametrize(
    "approach, fields",
    [
        ("hat", {"network.dropout": (0.2, 0.5)}),
        ("sgd", {"tasks.kind": "split", "data.augment": ("crop", "flip")}),
        ("sgd", {"batch": 1000, "eval_batch": 1000, "fidelity": "code"}),
        ("joint", {"epochs": 2}),
        ("si", {}),
        ("derpp", {"approach.buffer": 30, "approach.replay": 9}),
    ],
)
def test_the_same_bits(approach, fields, tmp_path):
    both(tmp_path, small(approach, **fields))
    same(tmp_path / "no", tmp_path / "yes")


def test_the_same_bits_of_several_runs(tmp_path):
    """Of two seeds with other images and orders; some stop early."""
    c = small(lr_patience=1, epochs=4, lr_min=0.04)
    c.seeds, c.grid = 2, "lr=0.05,0.2"
    both(tmp_path, c)
    all_the_same(tmp_path / "no", tmp_path / "yes")


class After(stop.Stopping):
    """Asks to stop at the third question, after an epoch."""

    asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > 2


@pytest.mark.parametrize("approach", [pytest.param("sgd", marks=pytest.mark.slow), "si", "er"])
def test_a_run_goes_on_streamed(approach, tmp_path):
    """Begun in memory, paused within a task, and ended with streamed images."""
    c = small(approach)
    run.run_sweep(tmp_path / "whole", {"": c}, quiet=True)
    with pytest.raises(Interrupted, match="stopped after"):
        run.run_sweep(tmp_path / "w", {"": c}, quiet=True, stopping=After())
    c.data.stream = "yes"
    run.run_sweep(tmp_path / "w", {"": c}, quiet=True)
    same(tmp_path / "whole", tmp_path / "w")


def test_where_a_loss_is_no_number(tmp_path):
    """The same step and parameter are named."""
    said = []
    for how in ("no", "yes"):
        c = small("sgd", lr=3e29, epochs=1)
        c.data.stream = how
        with pytest.raises(Diverged) as told:
            run.run_sweep(tmp_path / how, {"": c}, quiet=True)
        said.append(str(told.value))
    assert said[0] == said[1] and "the largest gradient of step" in said[0]


STREAMING = {*APPROACHES} - {"ewc", "imm_mode", "mas"}  # these read the images at the end of a task


@pytest.mark.parametrize("name", sorted(APPROACHES))
def test_which_approaches_stream(name):
    c = small(name)
    c.data.stream = "yes"
    if name in STREAMING:
        run.ready(c)
    else:
        with pytest.raises(InputError, match=f"config.approach.name = '{name}' reads the training"):
            run.ready(c)
        with pytest.raises(InputError, match="reads the training images"):
            description.describe(c, {"": c}, "w")


def test_images_beyond_the_memory_of_the_device(monkeypatch):
    c = small("sgd")
    assert "streamed" not in description.describe(c, {"": c}, "w")
    sequence, _ = run.prepare(c)
    need = device_memory.image_bytes(sequence, False)
    assert need == 359 * 64  # those to test are more than the 100 to learn
    assert device_memory.image_bytes(sequence, True) == 359 * 64
    monkeypatch.setattr(device_memory, "memory_of_device", lambda: 2 * need - 1)
    text = description.describe(c, {"": c}, "w")
    assert "images are streamed from the host (config.data.stream = auto: those of a task" in text
    c.data.stream = "no"
    assert "streamed" not in description.describe(c, {"": c}, "w")
    c.data.stream = "perhaps"
    with pytest.raises(InputError, match="'auto', 'yes' or 'no'"):
        run.prepare(c)


@pytest.fixture
def on_the_disk(monkeypatch, tmp_path):
    """A folder of images is more than the memory holds."""
    monkeypatch.setattr(folder, "IN_MEMORY", 0.0)
    monkeypatch.setattr(lazy, "BLOCK", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def in_memory(monkeypatch) -> None:
    monkeypatch.setattr(folder, "IN_MEMORY", 1.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, (13, 13), (7, 8)])
def test_a_folder_on_the_disk(channels, size, tmp_path, on_the_disk, monkeypatch, caplog):
    """The images are those that are read to memory; one of 9 x 9 has a margin of 2 to 13."""
    files.write_folders(tmp_path / "mine", files.raw(side=9, channels=channels))
    got = [data.load("mine", tmp_path, size) for _ in range(2)]
    assert caplog.text.count("decoding 18 images, once") == 1
    in_memory(monkeypatch)
    want = data.load("mine", tmp_path, size)
    for raw in got:
        assert isinstance(raw.x_train, np.memmap) and not isinstance(want.x_train, np.memmap)
        for a, b in zip(raw[:4], want[:4], strict=True):
            np.testing.assert_array_equal(a, b)
    image = next((tmp_path / "mine" / "train").rglob("*.png"))
    image.write_bytes(next((tmp_path / "mine" / "test").rglob("*.png")).read_bytes())
    changed = data.load("mine", tmp_path, size)
    assert not np.array_equal(changed.x_train, want.x_train)


def test_a_folder_that_cannot_be_kept(tmp_path, on_the_disk, monkeypatch):
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda where: SimpleNamespace(free=18 * 9 * 9 * 3 - 1))
        with pytest.raises(InputError, match="it takes 0.0 GB, and 0.0 GB are free"):
            data.load("mine", tmp_path)
    assert not [*(tmp_path / "cache").rglob("*.npy")]
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="cannot be kept decoded as .* by .XDG_CACHE_HOME"):
        data.load("mine", tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_on_the_disk(channels, tmp_path, on_the_disk, monkeypatch):
    """Its tasks are rows of the file; the results are those of the images in memory."""
    files.write_folders(tmp_path / "mine", files.raw(80, side=8, channels=channels, classes=4))
    c = small("sgd", epochs=2)
    c.data.sets, c.data.root, c.data.image = ("mine",), str(tmp_path), (8, 8, 3)
    c.tasks.kind = "split"
    disk = tasks.make(c)
    assert all(isinstance(x, lazy.Rows) for task in disk for x, _ in (task.train, task.valid))
    run.run_sweep(tmp_path / "yes", {"": c}, quiet=True)
    in_memory(monkeypatch)
    assert fingerprints(disk) == fingerprints(tasks.make(c))
    run.run_sweep(tmp_path / "no", {"": c}, quiet=True)
    same(tmp_path / "yes", tmp_path / "no")


def test_arrays_of_the_user_on_the_disk(tmp_path):
    raw = files.raw(60, side=4)
    for name in ("x_train", "x_test"):
        np.save(tmp_path / name, getattr(raw, name))
    x, x_test = (np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in ("x_train", "x_test"))
    settings = dict(epochs=2, network={"widths": (6,)}, quiet=True)
    disk = hatjax.fit([(x, raw.y_train, x_test, raw.y_test)], **settings)
    there = hatjax.fit([raw[:4]], **settings)
    np.testing.assert_array_equal(disk.accuracy, there.accuracy)


def test_joint_training_on_images_of_several_dtypes():
    """A float image after, and before, those of 8 bits keeps its numbers."""
    rng, y = np.random.default_rng(0), np.arange(40) % 2
    floats = rng.random((40, 6, 6)).astype(np.float32)
    few = (255 * floats).astype(np.uint8)
    c = config.of_arrays(2, "joint")
    for order in ((floats, few), (few, floats)):
        given = tasks.of_arrays(c, [(x, y, x, y) for x in order])
        length = feed.capacity(given, "train", 32, True)
        whole = feed.pad(given, 1, "train", length, True)
        labels = feed.labels(given, 1, "train", length, True)
        images = functools.partial(feed.images, given, 1, "train", union=True)
        streamed = stream.Stream(labels, [int(labels.n)], [images], lambda x: x)
        x = np.concatenate([s.data.x for s in stream.stretches(streamed, 32)], axis=1)
        np.testing.assert_array_equal(x[0, : labels.n], whole.x[0, : labels.n])
        assert x.dtype == whole.x.dtype == np.float32


def test_rows():
    x = np.arange(24).reshape(6, 2, 2, 1)
    rows = lazy.Rows(x, np.array([4, 1, 3]))
    again = lazy.rows(rows, np.array([True, False, True]))
    np.testing.assert_array_equal(again, x[[4, 3]])
    assert isinstance(again, lazy.Rows) and again.whole is x
    np.testing.assert_array_equal(rows[1:], x[[1, 3]])
    np.testing.assert_array_equal(np.concatenate([*lazy.blocks(rows)]), x[[4, 1, 3]])
    assert len(rows) == 3 and rows.shape == (3, 2, 2, 1)


@pytest.mark.slow
def test_on_several_devices_and_processes(tmp_path):
    fields = ["--config.data.examples=99", "--config.seeds=2", "--config.data.stream=yes"]
    one = command(tmp_path, "--workdir=one", *fields[:2])
    eight = command(tmp_path, "--workdir=eight", "--config.mesh.data=4", *fields, devices=8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--processes=2", "--workdir=two"]
    with ThreadPoolExecutor() as hosts:
        jobs = [
            hosts.submit(command, tmp_path, *args, *fields, f"--process={i}", devices=2)
            for i in range(2)
        ]  # fmt: skip
    for done in (one, eight, *(job.result() for job in jobs)):
        assert done.returncode == 0, done.stderr[-2000:]
    for name in ("eight", "two"):
        for seed in range(2):
            close(tmp_path / "one" / f"seed{seed}", tmp_path / name / f"seed{seed}")
