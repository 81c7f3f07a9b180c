"""A workdir says with which software its run was trained."""

import json
import platform
import subprocess

import jax
import pytest

import hatjax
from hatjax.workdir import versions


def test_a_run_says_it(trained_runs):
    (entry,) = versions.read(trained_runs["mlp"])
    assert entry == versions.now()
    assert entry["hatjax"] == hatjax.__version__ and entry["jax"] == jax.__version__
    assert entry["python"] == platform.python_version() and {"optax", "flax"} <= entry.keys()


def test_other_software_is_one_more_entry(tmp_path, monkeypatch):
    for release in ("1", "1", "2", "1"):
        with monkeypatch.context() as patch:
            patch.setattr(versions, "version", lambda name, release=release: release)
            assert versions.add(tmp_path) == ""
    assert [entry["jax"] for entry in versions.read(tmp_path)] == ["1", "2", "1"]


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"jax": 3}]', "\0", None])
def test_a_damaged_file_is_told_and_written_anew(tmp_path, content):
    path = tmp_path / versions.FILE
    path.mkdir() if content is None else path.write_text(content)
    assert "versions.json is damaged: it begins anew" in versions.add(tmp_path)
    assert json.loads(path.read_text()) == [versions.now()]


def test_the_commit_is_that_of_a_checkout(tmp_path):
    assert versions.commit(tmp_path) == {}
    (tmp_path / ".git").mkdir()  # of something else
    assert versions.commit(tmp_path) == {}
    (tmp_path / ".git").rmdir()
    who = ["-c", "user.name=n", "-c", "user.email=e"]

    def git(*args):
        done = subprocess.run(
            ["git", "-C", tmp_path, *args], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git(*who, "commit", "-m", "1")
    head = git("rev-parse", "HEAD")
    versions.commit.cache_clear()
    assert versions.commit(tmp_path) == {"commit": head}
    (tmp_path / "a").write_text("2")
    versions.commit.cache_clear()
    assert versions.commit(tmp_path) == {"commit": f"{head}-dirty"}
    versions.commit.cache_clear()
