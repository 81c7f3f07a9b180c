"""Files that would run code, or write elsewhere, if they were trusted: nothing of it happens."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hatjax
from hatjax import config, export
from hatjax.data import npz, pickles, sources, tasks, zipped
from hatjax.experiment import run
from hatjax.report import read, write
from hatjax.workdir import results, trees
from tests import hostile
from tests import raw_files as files


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path_factory):
    """What a payload would make, outside all folders that are read."""
    path = tmp_path_factory.mktemp("outside") / "mark"
    yield path
    assert not list(path.parent.iterdir())


def test_the_payload_works(tmp_path):
    """Else the tests below show nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    np.save(tmp_path / "a.npy", np.array([Payload(tmp_path / "other")]), allow_pickle=True)
    np.load(tmp_path / "a.npy", allow_pickle=True)
    assert (tmp_path / "mark").exists() and (tmp_path / "other").exists()


def images(folder: Path, name: str = "mine") -> bool:
    c = config.make("digits", "hat")
    c.data.root, c.data.sets = str(folder), (name,)
    return hostile.told(tasks.make, c, says=name)


@pytest.mark.parametrize("field", ["x_train", "y_train", "x_test", "y_test", "more"])
def test_npz_with_objects(tmp_path, mark, field):
    arrays = files.raw()._asdict()
    arrays[field] = np.array([Payload(mark)] * 12)
    np.savez(tmp_path / "mine.npz", **arrays)
    assert images(tmp_path) == (field == "more")  # which nobody reads


def test_npz_that_is_a_pickle(tmp_path, mark):
    (tmp_path / "mine.npz").write_bytes(pickle.dumps(Payload(mark)))
    assert not images(tmp_path)


@pytest.mark.parametrize("name", ["../../mark", "{mark}", "..\\mark", "a/../../mark"])
def test_archives_write_nowhere(tmp_path, mark, name, monkeypatch):
    """Members with such names are neither unpacked nor in the way."""
    names = (name.format(mark=mark), f"{name.format(mark=mark)}.npy")
    root = tmp_path / "a" / "b"
    npz.write(root / "mine.npz", files.raw())
    with zipfile.ZipFile(root / "mine.npz", "a") as archive:
        for each in names:
            archive.writestr(each, b"content")
    content = io.BytesIO(files.zipped_pickles(files.raw(channels=1), "notmnist_{}.pkl"))
    with zipfile.ZipFile(content, "a") as archive:
        for each in names:
            archive.writestr(each, b"content")
    (root / "notmnist.zip").write_bytes(content.getvalue())
    source = sources.SOURCES["notmnist"]
    members = ("notmnist_train.pkl", "notmnist_test.pkl")
    published = zipped.reader(source.origin, files.blob_id(content.getvalue()), *members)
    monkeypatch.setitem(sources.SOURCES, "notmnist", source._replace(read=published, keep=False))
    before = hostile.snapshot(tmp_path)
    assert images(root) and images(root, "notmnist")
    assert hostile.snapshot(tmp_path) == before


def test_an_archive_with_a_link(tmp_path, mark):
    """A member that is a symbolic link to a file is its bytes, which are no array."""
    arrays = files.raw()._asdict()
    content = {f"{k}.npy": saved(v) for k, v in arrays.items() if k != "y_test"}
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        for name, each in content.items():
            archive.writestr(name, each)
        link = zipfile.ZipInfo("y_test.npy")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert not images(tmp_path)


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# Pickles in which no class of ours is asked for: what the unpickler's own commands can do.
COMMANDS = {
    "global": b"cos\nmkdir\n(V{mark}\ntR.",
    "instance": b"(V{mark}\nios\nmkdir\n.",
    "object": b"(cos\nmkdir\nV{mark}\no.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(V{mark}\ntR.",
    "builtins": b"cbuiltins\neval\n(V__import__('os').mkdir('{mark}')\ntR.",
    "through numpy": b"cnumpy.f2py.crackfortran\nmyeval\n(V__import__('os').mkdir('{mark}')\ntR.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93(V{mark}\ntR.",
    "stand-in's globals": b"\x80\x04\x8c\x07_codecs\x8c\x12encode.__globals__\x93.",
    "state": b"c_codecs\nencode\n(N}V__code__\nV{mark}\nstb.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"P{mark}\n.",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_pickles_that_call(mark, command):
    content = COMMANDS[command].replace(b"{mark}", str(mark).encode())
    assert not hostile.told(pickles.load, io.BytesIO(content), "a.pkl", says="a.pkl")


def test_a_stand_in_cannot_be_changed():
    """What a pickle sets on one does not outlive it."""
    content = b"c_codecs\nencode\n(N}V__defaults__\n(Va\nVlatin1\ntstb."
    hostile.told(pickles.load, io.BytesIO(content), "a.pkl")
    want = {"a": np.arange(3, dtype=np.uint8)}
    got = pickles.load(io.BytesIO(pickle.dumps(want, 2)), "a.pkl")
    np.testing.assert_array_equal(got["a"], want["a"])
    assert pickles._encode.__defaults__ is None


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_what_torchvision_once_kept(tmp_path, mark, name, monkeypatch):
    """It still reads processed/training.pt with torch.load, but nothing that runs."""
    import torch

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    folder = tmp_path / name / "processed"
    folder.mkdir(parents=True)
    for split in ("training", "test"):
        torch.save(Payload(mark), folder / f"{split}.pt")
    assert not images(tmp_path, {"MNIST": "mnist"}.get(name, "fashion_mnist"))


@pytest.mark.parametrize("folder", ["cifar-10-batches-py", "cifar-100-python"])
def test_cifar_of_another_checksum(tmp_path, mark, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    names = ["data_batch_1", "test_batch", "batches.meta", "train", "test", "meta"]
    for name in [*names, *(f"data_batch_{i}" for i in range(2, 6))]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(pickle.dumps(Payload(mark)))
    assert not images(tmp_path, "cifar10" if "10-" in folder else "cifar100")


def test_images_of_formats_that_other_programs_decode(tmp_path, mark):
    """PostScript called PNG would be given to Ghostscript, if it is installed."""
    files.write_folders(tmp_path / "mine", files.raw(side=9))
    code = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({mark}) (w) file closefile\n%%EOF\n"
    (tmp_path / "mine" / "train" / "class0" / "0.png").write_text(code)
    assert not images(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    c = config.make("digits", "hat")
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 1, 1, (4, 4), 150
    where = tmp_path_factory.mktemp("trained") / "run"
    run.run_sweep(where, {"": c}, quiet=True)
    return where


@pytest.mark.parametrize(
    "name", ["tasks.npz", "loss.npy", "accuracy.npy", "network.npz", "config.json"]
)
def test_files_of_a_run(trained, tmp_path, mark, name):
    where = tmp_path / "run"
    shutil.copytree(trained, where)
    bomb = np.array([[Payload(mark)]])
    if name.endswith(".npy"):
        np.save(where / name, bomb, allow_pickle=True)
    elif name.endswith(".npz"):
        np.savez(where / name, names=bomb, row=bomb, image=bomb, classes=bomb)
    else:
        (where / name).write_bytes(pickle.dumps(Payload(mark)))
    hostile.told(hatjax.load, where)
    hostile.told(export.load, where)
    hostile.told(read.read_all, [where])


def test_every_file_of_a_model(trained, tmp_path, mark):
    """As pickles, as Python, and as JSON that names a class or a function to be called."""
    bombs = [
        pickle.dumps(Payload(mark)),
        f"__import__('os').mkdir({str(mark)!r})".encode(),
        json.dumps({"py/object": "os.mkdir", "item_handlers": "os.mkdir", "value_type": "os.mkdir",
                    "custom_metadata": {"py/reduce": ["os.mkdir", [str(mark)]]}}).encode(),
    ]  # fmt: skip
    for path in sorted(p for p in (trained / "model").rglob("*") if p.is_file()):
        for bomb in bombs:
            where = tmp_path / "run"
            shutil.copytree(trained, where)
            (where / path.relative_to(trained)).write_bytes(bomb)
            assert not hostile.told(hatjax.load, where, says="is damaged")
            trees.write_sums(where / "model")
            hostile.told(hatjax.load, where)
            shutil.rmtree(where)


def test_names_of_a_run_stay_names(trained, tmp_path, mark):
    """Names in a foreign run neither lead the report's files elsewhere nor become a page's code."""
    where = tmp_path / "runs" / "run"
    shutil.copytree(trained, where)
    saved = results.read_tasks(where / "tasks.npz")
    np.savez(where / "tasks.npz", **saved | {"names": np.array(["<script>x</script>../../mark"])})
    content = json.loads((where / "config.json").read_text())
    content["experiment"] = "<script>$(mkdir mark)`mkdir mark`"
    content["data"]["sets"] = ["<script>x</script>"[:17].replace("/", "")]
    (where / "config.json").write_text(json.dumps(content))
    before = hostile.snapshot(tmp_path)
    records, notes = read.read_all([where])
    _, _, lacks = write.write(records, tmp_path / "out", notes)
    assert "<script>" not in (tmp_path / "out" / "index.html").read_text()
    for lack in lacks:
        for command in lack.commands:
            subprocess.run(["bash", "-c", f"python() {{ :; }}; {command}"], cwd=mark.parent)
    shutil.rmtree(tmp_path / "out")
    assert hostile.snapshot(tmp_path) == before and sys.flags.isolated == 0
