"""Files that are not as they were written are found, whatever was done to them."""

import os
import shutil

import pytest

import hatjax
from hatjax import config
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.workdir import trees


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "f" / "below").mkdir(parents=True)
    (tmp_path / "f" / "a").write_bytes(b"1\r\n2")
    (tmp_path / "f" / "below" / "b  c").write_bytes(bytes(range(256)))
    trees.write_sums(tmp_path / "f")
    return tmp_path / "f"


def test_whole(folder):
    assert trees.altered(folder) == []


@pytest.mark.parametrize(
    "act, bad",
    [
        (lambda f: (f / "a").unlink(), ["a"]),
        (lambda f: (f / "a").write_bytes(b"1\n2"), ["a"]),
        (lambda f: os.rename(f / "a", f / "b"), ["a", "b"]),
        (lambda f: (f / "below" / "new").touch(), ["below/new"]),
        (lambda f: shutil.rmtree(f / "below"), ["below/b  c"]),
        (lambda f: os.mkfifo(f / "pipe"), ["pipe"]),
        (lambda f: (f / "gone").symlink_to("nowhere"), ["gone"]),
        (lambda f: (f / trees.SUMS).unlink(), [trees.SUMS]),
        (lambda f: (f / trees.SUMS).write_bytes(b"\xff"), [trees.SUMS]),
        (lambda f: (f / trees.SUMS).write_text("nothing\n"), [trees.SUMS]),
        (lambda f: (f / trees.SUMS).write_text(""), ["a", "below/b  c"]),
        (lambda f: shutil.rmtree(f), [trees.SUMS]),
    ],
)
def test_altered(folder, act, bad):
    act(folder)
    assert trees.altered(folder) == bad


def test_files_that_the_disk_does_not_give(folder, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("hashlib.file_digest", fail)
    assert trees.altered(folder) == ["a", "below/b  c"]


def test_a_bit_of_a_weight(tmp_path):
    """orbax would load another number."""
    c = config.make("digits", "hat")
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 1, 1, (6, 5), 150
    run.run_sweep(tmp_path / "run", {"": c}, quiet=True)
    for path in [p for p in (tmp_path / "run" / "model").rglob("*") if p.is_file()]:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"1")
        with pytest.raises(InputError, match="model.* is damaged.*--overwrite"):
            hatjax.load(tmp_path / "run")
        path.write_bytes(content)
    hatjax.load(tmp_path / "run")


def test_a_pipe_in_a_model(tmp_path):
    """Nobody writes to it, and whoever opens it waits for ever."""
    c = config.make("digits", "hat")
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 1, 1, (6, 5), 150
    run.run_sweep(tmp_path / "run", {"": c}, quiet=True)
    about = tmp_path / "run" / "model" / "_METADATA"
    about.unlink()
    os.mkfifo(about)
    with pytest.raises(InputError, match="model/_METADATA is damaged"):
        hatjax.load(tmp_path / "run")
