"""Confusion matrices and per-class accuracies in a report, and what they say of missing files."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hatjax.data import Raw, npz
from hatjax.report import confusion, read, write


def copies(source: Path, folder: Path, count: int) -> list[Path]:
    """The run with other seeds in its configuration, all with the same data and model."""
    for seed in range(count):
        shutil.copytree(source, folder / str(seed))
    return [folder / str(seed) for seed in range(count)]


def test_matrices_and_classes(trained_runs, tmp_path):
    records, _ = read.read_all([trained_runs["mlp"]])
    counts, notes = confusion.count(records)
    (record,) = records
    assert [c.task for c in counts] == list(record.names) and not notes
    for c, accuracy in zip(counts, record.acc[-1], strict=True):
        assert c.counts.shape == (10, 10) and c.classes == tuple("0123456789")
        assert np.trace(c.counts) / c.counts.sum() == pytest.approx(accuracy, abs=0.01)
    text, notes, _ = write.write(records, tmp_path / "out", confused=True)
    assert not notes
    frame = pd.read_csv(tmp_path / "out" / "per_class.csv")
    mine = frame[(frame["task"] == record.names[1]) & (frame["class"] == 3)]
    expected = counts[1].counts[3, 3] / counts[1].counts[3].sum()
    assert list(mine["accuracy"]) == [pytest.approx(expected)] and len(frame) == 30
    pairs = pd.read_csv(tmp_path / "out" / "confusion.csv")
    assert pairs["images"].sum() == frame["images"].sum() == counts[0].counts.sum() * 3
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Confusion matrices of HAT" in page and f"<td>{100 * expected:.1f}</td>" in page
    assert list((tmp_path / "out" / "figures").glob("confusion-*.pdf"))


def test_what_is_missing_or_changed_is_told(trained_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("HATJAX_DATA", str(tmp_path / "data"))
    whole, moved, bare = copies(trained_runs["alexnet"], tmp_path / "runs", 3)
    config = (whole / "config.json").read_text()
    (record,), _ = read.read_all([whole])
    root = record.config.data.root
    (moved / "config.json").write_text(config.replace(root, "/nowhere"))
    shutil.rmtree(bare / "model")
    records, _ = read.read_all([tmp_path / "runs"])
    counts, notes = confusion.count(records)
    assert {c.record.where.name for c in counts} == {"0"} and len(counts) == 3
    (first,) = [note for note in notes if "runs/1" in note]
    assert "the image sets mine are not in /nowhere or " in first and "$HATJAX_DATA" in first
    (second,) = [note for note in notes if "runs/2" in note]
    assert "no confusion matrices of" in second and "has no model" in second and len(notes) == 2
    # $HATJAX_DATA stands in for a data root that is gone.
    (tmp_path / "data").mkdir()
    shutil.copy(Path(root) / "mine.npz", tmp_path / "data")
    records, _ = read.read_all([moved])
    assert len(confusion.count(records)[0]) == 3
    # Other test images than those of the run: five of one class and one of the other.
    with np.load(tmp_path / "data" / "mine.npz") as old:
        x, y = old["x_train"], old["y_train"]
    npz.write(
        tmp_path / "data" / "mine.npz",
        Raw(x, y, x[:18], np.array([0, 0, 0, 0, 0, 1] * 3) + np.repeat([0, 2, 4], 6)),
    )
    counts, (note,) = confusion.count(records)
    assert not counts and "has changed since" in note


def test_seeds_are_pooled(trained_runs):
    records, _ = read.read_all([trained_runs["mlp"]])
    counts, _ = confusion.count(records)
    (tasks,) = confusion.pooled([*counts, *counts]).values()
    assert list(tasks) == list(records[0].names)
    np.testing.assert_array_equal(tasks[records[0].names[2]].counts, 2 * counts[2].counts)
