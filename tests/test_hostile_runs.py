"""Runs with damaged, missing and foreign files: each is used, or refused in one line."""

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hatjax
from hatjax import config, export, forget
from hatjax.experiment import run
from hatjax.report import groups, numbers, read, tables, write
from hatjax.workdir import files
from tests import hostile, trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of HAT, another of other sizes, and an exported network of the first."""
    folder = tmp_path_factory.mktemp("runs")
    for name, approach, count, widths in (("mine", "hat", 2, (6, 5)), ("other", "sgd", 3, (4,))):
        c = config.make("digits", approach)
        c.tasks.count, c.epochs, c.network.widths, c.data.examples = count, 2, widths, 150
        run.run_sweep(folder / name, {"": c}, quiet=True)
    small = hatjax.cut(hatjax.load(folder / "mine"), 0)
    with files.folder(folder / "small", export.FILES) as part:
        export.save(part, small, {"a": 1})
    return {name: folder / name for name in ("mine", "other", "small")}


def all_files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


ARRAYS = (np.eye(2), np.ones((2, 2), "U3"), np.full((2, 2), np.nan), np.zeros((2, 2, 2)),
          np.array(1.0), np.eye(2, dtype="c8"), 7 * np.eye(2), np.zeros((0, 0)))  # fmt: skip
LINES = ("{}", "[]", "[" * 2000, '{"task": 0, "epoch": 0}', '{"task": 1e999, "epoch": 0}',
         '{"task": -1, "epoch": 0}', '{"task": 0, "epoch": 0, "used_fc1": "x"}', "null", "\0",
         '{"task": 10000000000000000000000, "epoch": 0}')  # fmt: skip


def harm(draw, where: Path, other: Path) -> None:
    """Do something to one file of a folder."""
    path = where / draw(st.sampled_from(all_files(where)))
    kind = draw(st.sampled_from(("cut", "damage", "damage", "remove", "noise", "folder", "pipe",
                                 "swap", "array", "lines")))  # fmt: skip
    content = path.read_bytes()
    path.unlink()
    match kind:
        case "cut":
            path.write_bytes(content[: draw(st.integers(0, len(content)))])
        case "damage":
            path.write_bytes(draw(hostile.damaged(content)))
        case "noise":
            path.write_bytes(draw(st.binary(max_size=99)))
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "swap":
            shutil.copyfile(other / draw(st.sampled_from(all_files(other))), path)
        case "array":
            with open(path, "wb") as file:
                np.save(file, draw(st.sampled_from(ARRAYS)))
        case "lines":
            path.write_text("\n".join(draw(st.lists(st.sampled_from(LINES)))) + "\n")


def copied(runs, name: str, factory) -> Path:
    where = factory.getbasetemp() / "copies" / name
    shutil.rmtree(where.parent, ignore_errors=True)
    shutil.copytree(runs[name], where)
    return where


def unchanged(where: Path, action, *args, says: str = "") -> bool:
    """Whether `action` works; the folder is as before, with nothing beside it but "out"."""
    before = hostile.snapshot(where.parent)
    works = hostile.told(action, *args, says=says)
    if works:
        shutil.rmtree(where.parent / "out", ignore_errors=True)
    assert hostile.snapshot(where.parent) == before
    return works


def use(where: Path) -> None:
    model = hatjax.load(where)
    x = np.zeros((2, *model.image), np.uint8)
    for task in range(len(model.names)):
        hatjax.predict(model, x, task)


def compare(where: Path) -> None:
    records, notes = read.read_all([where.parent])
    assert all("\n" not in note for note in notes)
    found, _ = groups.groups(records)
    tables.markdown(found, numbers.all_values(records))


@hostile.examples(60, seconds=30)
@given(st.data())
def test_load(runs, tmp_path_factory, data):
    where = copied(runs, "mine", tmp_path_factory)
    harm(data.draw, where, runs["other"])
    unchanged(where, use, where, says=str(where))


def test_a_pipe_in_place_of_each_file_is_not_waited_for(runs, tmp_path_factory):
    where = copied(runs, "mine", tmp_path_factory)
    for name in all_files(where):
        content = (where / name).read_bytes()
        (where / name).unlink()
        os.mkfifo(where / name)
        unchanged(where, use, where, says=str(where))
        unchanged(where, compare, where)
        (where / name).unlink()
        (where / name).write_bytes(content)


@hostile.examples(200, seconds=30)
@given(st.data())
def test_report(runs, tmp_path_factory, data):
    where = copied(runs, "mine", tmp_path_factory)
    for _ in range(data.draw(st.integers(1, 2))):
        harm(data.draw, where, runs["other"])
    unchanged(where, compare, where)


@hostile.examples(6, seconds=60)
@given(st.data())
def test_whole_reports(runs, tmp_path_factory, data):
    """Of the files that are drawn."""
    where = copied(runs, "mine", tmp_path_factory)
    path = where / data.draw(st.sampled_from(("accuracy.npy", "metrics.jsonl", "tasks.npz")))
    content = path.read_bytes()
    path.write_bytes(data.draw(hostile.damaged(content)))

    def report():
        records, notes = read.read_all([where])
        write.write(records, where.parent / "out", notes)

    unchanged(where, report)


@hostile.examples(150, seconds=30)
@given(st.data())
def test_exported(runs, tmp_path_factory, data):
    where = copied(runs, "small", tmp_path_factory)
    harm(data.draw, where, runs["mine"])

    def predict():
        small = export.load(where)
        export.predict(small, np.zeros((2, *small.image), np.uint8))

    unchanged(where, predict, says=str(where))


@hostile.examples(20, seconds=30)
@given(st.data())
def test_forget(runs, tmp_path_factory, data):
    where = copied(runs, "mine", tmp_path_factory)
    harm(data.draw, where, runs["other"])

    def leave_out():
        model = forget.forget_task(hatjax.load(where), 0, jax.random.key(0))
        with files.folder(where.parent / "out") as part:
            forget.save(where, part, model, 0)

    unchanged(where, leave_out, says=str(where))


@pytest.mark.parametrize("command", ["export", "forget", "report"])
def test_the_commands(runs, tmp_path, command):
    shutil.copytree(runs["mine"], tmp_path / "run")
    (tmp_path / "run" / "tasks.npz").write_bytes(b"PK\3\4")
    before = hostile.snapshot(tmp_path)
    args = [] if command == "report" else ["--task=1"]
    status, out, err = trained.command(
        command, tmp_path / "run", *args, f"--out={tmp_path / 'out'}"
    )
    assert status == 2 and out == "" and str(tmp_path / "run") in hostile.one_line(err)
    assert hostile.snapshot(tmp_path) == before


def test_a_foreign_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for action in (hatjax.load, export.load, lambda w: read.read_all([w])):
        for name in ("", "nowhere", "a\0b", "x" * 300):
            assert not unchanged(tmp_path, action, tmp_path / name)
