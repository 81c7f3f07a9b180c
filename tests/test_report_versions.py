"""A report knows which versions its runs were trained with, and tells where they are pooled."""

import dataclasses
import json
import shutil

import pytest

from hatjax.report import groups, load, numbers, page, read, versions
from tests.test_report_figures import record

OLD = {"hatjax": "0.1.0", "commit": "a" * 40, "jax": "0.8.1", "numpy": "2.2"}
NEW = {"hatjax": "0.2.0", "jax": "0.10.2"}


def trained(*entries: dict, seed: int = 0, approach: str = "hat") -> read.Record:
    return dataclasses.replace(record(approach, seed), versions=entries)


def notes(*records: read.Record) -> list[str]:
    return versions.mixtures(groups.groups(records)[0])


def test_a_mixture_among_seeds_is_told():
    assert not notes(trained(), trained(seed=1))  # all older than versions.json
    assert not notes(trained(OLD), trained(OLD | {"numpy": "2.3"}, seed=1))
    assert not notes(trained(OLD), trained(NEW, approach="sgd"))  # not pooled
    (note,) = notes(trained(OLD), trained(NEW, seed=1), trained(seed=2), trained(approach="sgd"))
    assert note.startswith("digits: the runs of HAT were trained by different versions")
    assert "hatjax 0.1.0 (aaaaaaaaaa) with jax 0.8.1: hat-0" in note
    assert "hatjax 0.2.0 with jax 0.10.2: hat-1" in note and "unknown (an older run): hat-2" in note
    # A run that went on with other software is a mixture by itself, and a checkout with changes is
    # another one.
    assert len(notes(trained(OLD, NEW))) == 1
    (note,) = notes(trained(OLD), trained(OLD | {"commit": "a" * 40 + "-dirty"}, seed=1))
    assert "(aaaaaaaaaa-dirty)" in note


def test_the_frame_and_the_page_have_the_versions():
    records = [trained(OLD, NEW), trained(NEW, seed=1), trained(seed=2)]
    found, _ = groups.groups(records)
    frames = numbers.all_values(records)
    assert list(frames.runs["hatjax"].fillna("")) == ["0.1.0, 0.2.0", "0.2.0", ""]
    assert list(frames.runs["commit"].fillna("")) == ["a" * 40, "", ""]
    table = page.runs(found, frames)
    assert list(table["commit"]) == ["a" * 10, "", ""] and table["jax"].iloc[0] == "0.8.1, 0.10.2"
    plain = [trained(), trained(seed=1)]
    assert "jax" not in page.runs(groups.groups(plain)[0], numbers.all_values(plain))


@pytest.fixture
def two(trained_runs, tmp_path):
    """Two seeds of a run."""
    for seed in range(2):
        where = tmp_path / str(seed)
        shutil.copytree(trained_runs["mlp"], where)
        text = (where / "config.json").read_text()
        (where / "config.json").write_text(text.replace('"seed": 0', f'"seed": {seed}'))
        (where / "versions.json").write_text(json.dumps([OLD]))
    return tmp_path


def test_from_files(two):
    assert set(load(two).runs["jax"]) == {"0.8.1"}
    (two / "1" / "versions.json").write_text(json.dumps([OLD, NEW]))
    with pytest.warns(UserWarning, match="trained by different versions"):
        assert list(load(two).runs["hatjax"]) == ["0.1.0", "0.1.0, 0.2.0"]
    (two / "1" / "versions.json").unlink()
    with pytest.warns(UserWarning, match="unknown .an older run.: .*1"):
        load(two)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b"[" * 100_000, b'[{"jax": 3'])
def test_a_damaged_file_is_told(two, content):
    (two / "0" / "versions.json").write_bytes(content)
    record, (note,) = read.read(two / "0")
    assert "versions.json is damaged" in note and not record.versions and record.finished
