"""A run or a sweep that was cut off goes on from its newest whole checkpoint, to the same bits."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import hatjax
from hatjax import config, plans, study
from hatjax.analysis import models
from hatjax.errors import InputError, Interrupted
from hatjax.experiment import checkpoint, loop, run, stop, sweep
from hatjax.workdir import files, results, trees
from tests.same import all_the_same, same


def small(**changes) -> ConfigDict:
    c = config.make("digits", "hat")
    c.network.widths, c.tasks.count, c.data.examples = (12, 12), 3, 300
    c.epochs, c.checkpoint.epochs = 4, 1
    c.update(changes)
    return c


def seeds(count: int = 2, **changes) -> dict[str, ConfigDict]:
    return plans.replicas(small(seeds=count, **changes))


class Cut(BaseException):
    """Like a kill, it is nothing that anybody catches."""


@pytest.fixture
def cut(monkeypatch):
    """Trains until a checkpoint of (task, epoch), or so many of them, are saved, and breaks off."""

    def to(train: Callable, at: tuple[int, int] | int) -> None:
        save, count = checkpoint.save, []

        def break_off(inputs, progress, only=None):
            save(inputs, progress, only)
            count.append(only)
            if at in ((progress.task, progress.epoch), len(count)):
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", break_off)
            with pytest.raises(Cut):
                train()

    return to


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run of `small` without a pause."""
    where = tmp_path_factory.mktemp("whole") / "w"
    run.run_sweep(where, {"": small()}, quiet=True)
    return where


@pytest.fixture(scope="module")
def whole_sweep(tmp_path_factory) -> Path:
    """A sweep of three seeds without a pause."""
    where = tmp_path_factory.mktemp("sweep") / "s"
    run.run_sweep(where, seeds(3), quiet=True)
    return where


def position(folder: Path) -> tuple[int, int]:
    """Task and epoch of the newest checkpoint in `folder`."""
    about = checkpoint.read_about(folder, checkpoint.numbers(folder)[0])
    return about["task"], about["epoch"]


def damages():
    def largest(folder: Path) -> Path:
        return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)

    def truncate(folder: Path) -> None:
        file = largest(folder)
        file.write_bytes(file.read_bytes()[:-10])

    def flip(folder: Path) -> None:
        content = bytearray(largest(folder).read_bytes())
        content[len(content) // 2] ^= 4
        largest(folder).write_bytes(content)

    def lose(folder: Path) -> None:
        next((folder / "state").rglob("manifest.ocdbt")).unlink()

    def no_sums(folder: Path) -> None:
        (folder / trees.SUMS).unlink()

    return [truncate, flip, lose, no_sums]


@pytest.mark.parametrize("damage", damages(), ids=lambda f: f.__name__)
def test_a_damaged_checkpoint(cut, whole, tmp_path, capfd, damage):
    where = tmp_path / "w"
    cut(lambda: run.run(small(), where), (1, 2))
    newest, before = checkpoint.numbers(where / "checkpoints")
    damage(where / "checkpoints" / str(newest))
    capfd.readouterr()
    run.run(small(), where)
    out, err = capfd.readouterr()
    assert f"checkpoints/{newest} is damaged: going back" in out and "Traceback" not in err
    assert "going on after task 2, epoch 1" in out
    same(whole, where)


def test_all_checkpoints_damaged(cut, whole, tmp_path, capsys):
    where = tmp_path / "w"
    cut(lambda: run.run(small(), where), (1, 2))
    for number in checkpoint.numbers(where / "checkpoints"):
        (where / "checkpoints" / str(number) / "about" / "metadata").write_text("{}")
    run.run(small(), where)
    out = capsys.readouterr().out
    assert out.count("is damaged") == 2 and "no whole checkpoint is left in " in out
    assert "beginning anew" in out
    same(whole, where)


def test_checkpoints_that_were_removed(cut, whole, tmp_path, capsys):
    where = tmp_path / "w"
    cut(lambda: run.run(small(), where), (1, 2))
    shutil.rmtree(where / "checkpoints")
    run.run(small(), where)
    out = capsys.readouterr().out
    assert "no whole checkpoint is left in " in out and "beginning anew" in out
    same(whole, where)


def test_a_workdir_by_a_way_through_another_folder(cut, whole, tmp_path):
    """TensorStore takes no ".." in a path; and one with a backslash it would lose."""
    (tmp_path / "other").mkdir()
    where = tmp_path / "other" / ".." / "w"
    cut(lambda: run.run(small(), where), (1, 2))
    run.run(small(), where)
    same(whole, tmp_path / "w")
    assert models.load(where).names == models.load(whole).names
    with pytest.raises(InputError, match="has a backslash in its path"):
        run.run(small(), tmp_path / "a\\b")
    assert not (tmp_path / "a\\b").exists()


def test_a_sweep_and_a_single_run_do_not_mix(whole, whole_sweep):
    with pytest.raises(InputError, match="holds a single run, not a sweep"):
        run.run_sweep(whole, seeds(3), quiet=True)
    with pytest.raises(InputError, match="holds a sweep of hatjax"):
        run.run(small(), whole_sweep)


def test_a_checkpoint_of_an_earlier_version(whole, tmp_path, capsys):
    where = tmp_path / "w"
    (where / "checkpoints" / "0001-00002").mkdir(parents=True)
    (where / "config.json").write_text(config.to_json(small()))
    run.run(small(), where)
    assert "no whole checkpoint is left in " in capsys.readouterr().out
    same(whole, where)


@pytest.mark.parametrize(
    "file, content", [("about/metadata", "[1]"), ("about/metadata", "[" * 99999),
                      ("state/_METADATA", "x"), ("state/manifest.ocdbt", "x")]
)  # fmt: skip
def test_a_checkpoint_of_others(cut, tmp_path, file, content):
    """Its sums are right, but it is not what hatjax writes."""
    cut(lambda: run.run(small(), tmp_path / "w"), (1, 0))
    folder = tmp_path / "w" / "checkpoints"
    newest = folder / str(checkpoint.numbers(folder)[0])
    (newest / file).write_text(content)
    trees.write_sums(newest)
    with pytest.raises(InputError, match=f"checkpoints/{newest.name} cannot be read.*--overwrite"):
        run.run(small(), tmp_path / "w")
    run.run(small(), tmp_path / "w", overwrite=True)


def test_other_images(cut, tmp_path):
    from hatjax.data import Raw, npz

    rng = np.random.default_rng(0)
    y = np.arange(80) % 4
    x = rng.integers(0, 256, (80, 6, 6), np.uint8)
    npz.write(tmp_path / "mine.npz", Raw(x, y, x[:20], y[:20]))
    c = small()
    c.data.root, c.data.sets, c.data.examples = str(tmp_path), ("mine",), 0
    cut(lambda: run.run(c, tmp_path / "w"), (1, 2))
    before = sorted((tmp_path / "w").rglob("*"))
    x[3, 2, 2] += 1
    npz.write(tmp_path / "mine.npz", Raw(x, y, x[:20], y[:20]))
    with pytest.raises(InputError, match="images or labels of mine permuted 0.*--overwrite"):
        run.run(c, tmp_path / "w")
    assert sorted((tmp_path / "w").rglob("*")) == before
    # The same images in another place are the same.
    x[3, 2, 2] -= 1
    (tmp_path / "moved").mkdir()
    npz.write(tmp_path / "moved" / "mine.npz", Raw(x, y, x[:20], y[:20]))
    c.data.root = str(tmp_path / "moved")
    run.run(c, tmp_path / "w")
    assert (tmp_path / "w" / "done").exists()


def test_another_configuration(cut, tmp_path):
    cut(lambda: run.run(small(), tmp_path / "w"), (1, 0))
    (tmp_path / "w" / "config.json").write_text(config.to_json(small(lr=1e-4)))
    with pytest.raises(InputError, match="is of another conf.*config.lr: 0.05, now 0.0"):
        run.run(small(lr=1e-4), tmp_path / "w")


def test_overwrite_goes_on_from_nothing(cut, tmp_path):
    """Not even from checkpoints that are a link to another disk."""
    where, scratch = tmp_path / "w", tmp_path / "scratch"
    where.mkdir()
    scratch.mkdir()
    (where / "config.json").write_text(config.to_json(small()))
    (where / "checkpoints").symlink_to(scratch)
    cut(lambda: run.run(small(), where), (1, 0))
    assert list(scratch.iterdir())
    run.run(small(lr=1e-4), where, overwrite=True)
    run.run(small(lr=1e-4), tmp_path / "whole")
    assert (where / "metrics.jsonl").read_bytes() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_bytes()
    assert not list(scratch.iterdir())


def test_a_sweep_goes_on_as_it_began(cut, whole_sweep, tmp_path, capsys):
    """With a damaged checkpoint, a folder that was removed, another at_once and one seed more."""
    where = tmp_path / "s"
    cut(lambda: run.run_sweep(where, seeds(3)), (1, 2))
    assert sweep.read_plan(where) == [["seed0", "seed1", "seed2"]]
    newest = checkpoint.numbers(where / "checkpoints" / "seed0")[0]
    damages()[0](where / "checkpoints" / "seed0" / str(newest))
    shutil.rmtree(where / "seed1")
    capsys.readouterr()
    run.run_sweep(where, seeds(4), at_once=2)
    out = capsys.readouterr().out
    assert "going on after task 2, epoch 1" in out and "mean of 3 of 3 runs" in out
    assert sweep.read_plan(where) == [["seed0", "seed1", "seed2"], ["seed3"]]
    for name in seeds(3):
        same(whole_sweep / name, where / name)
    assert (where / "seed3" / "done").exists() and not (where / "checkpoints").exists()


def test_fewer_seeds_of_a_sweep(cut, whole_sweep, tmp_path):
    """The others of their program go on with them, which keeps the bits."""
    where = tmp_path / "s"
    cut(lambda: run.run_sweep(where, seeds(3)), (1, 2))
    run.run_sweep(where, seeds(2))
    all_the_same(whole_sweep, where)


def test_a_finished_run_whose_folder_was_removed(whole_sweep, tmp_path, capsys):
    where = tmp_path / "s"
    shutil.copytree(whole_sweep, where)
    shutil.rmtree(where / "seed1")
    run.run_sweep(where, seeds(3))
    assert "mean of" not in capsys.readouterr().out  # it trains by itself
    assert sweep.read_plan(where) == [["seed0", "seed2"], ["seed1"]]
    accs = [np.load(w / "seed1" / "accuracy.npy") for w in (whole_sweep, where)]
    np.testing.assert_allclose(*accs)
    for name in ("seed0", "seed2"):
        same(whole_sweep / name, where / name)


def test_stopped_before_the_first_checkpoint(tmp_path, capsys, monkeypatch):
    """The same runs begin anew together; or fewer, if at_once says so."""
    where = tmp_path / "s"
    for at_once, plan in ((0, [["seed0", "seed1", "seed2"]]), (2, [["seed0", "seed1"], ["seed2"]])):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "train_all", lambda *_: (_ for _ in ()).throw(Cut))
            for _ in range(2):
                with pytest.raises(Cut):
                    run.run_sweep(where, seeds(3), at_once=at_once)
                assert sweep.read_plan(where) == plan


def test_killed_at_its_very_end(whole_sweep, tmp_path, monkeypatch):
    """Between the first and the last of the runs that are done, or before the checkpoints go."""
    where = tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "remove", lambda _: (_ for _ in ()).throw(Cut))
        with pytest.raises(Cut):
            run.run_sweep(where, seeds(3))
    shutil.copytree(where, tmp_path / "t")
    run.run_sweep(where, seeds(3))
    all_the_same(whole_sweep, where)
    (tmp_path / "t" / "seed1" / "done").unlink()
    run.run_sweep(tmp_path / "t", seeds(3))
    all_the_same(whole_sweep, tmp_path / "t")


@pytest.mark.parametrize(
    "plan", ['[["seed0"], 3]', '{"a": 1}', "[[]]", '[["seed0", "../x"]]', '[[""]]', "[" * 9999]
)
def test_a_damaged_plan(tmp_path, plan):
    (tmp_path / "plan.json").write_text(plan)
    with pytest.raises(InputError, match="plan.json is damaged .*remove it"):
        run.run_sweep(tmp_path, seeds(2))


def test_overwrite_of_some_seeds(cut, tmp_path):
    where = tmp_path / "s"
    cut(lambda: run.run_sweep(where, seeds(3)), (1, 2))
    run.run_sweep(where, seeds(2), overwrite=True)
    assert sweep.read_plan(where) == [["seed2"], ["seed0", "seed1"]]
    assert (where / "seed0" / "done").exists() and not (where / "seed2" / "done").exists()


def test_refused_before_anything_is_overwritten(whole_sweep, tmp_path):
    where = tmp_path / "s"
    shutil.copytree(whole_sweep, where)
    with files.locked(where / "seed1"), pytest.raises(InputError, match="another process"):
        run.run_sweep(where, seeds(3), overwrite=True)
    for name in seeds(3):
        same(whole_sweep / name, where / name)


def test_a_kill_while_results_are_published(cut, whole, tmp_path):
    """The matrices have no row of a task that the model has not learned."""
    where = tmp_path / "w"
    cut(lambda: run.run(small(), where), (1, 0))
    assert models.load(where).learned == (True, False, False)
    (where / "model").rename(where / ".model.old")
    assert models.load(where).learned == (True, False, False)
    (where / ".config.json.part").write_text("")
    run.run(small(), where)
    (where / ".config.json.part").unlink(missing_ok=True)
    same(whole, where)


def test_told_to_stop_in_the_last_epoch_of_a_run(tmp_path):
    """The next does not begin."""
    stopping, runs = stop.Stopping(), seeds(checkpoint=dict(epochs=0, minutes=0.0))
    for c in runs.values():
        c.tasks.count, c.epochs = 1, 1
    save = results.save

    def asked(*args):
        save(*args)
        assert stopping.on_signal()[0].startswith("stopping after this epoch")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "save", asked)
        with pytest.raises(Interrupted, match="between two runs"):
            run.run_sweep(tmp_path, runs, at_once=1, stopping=stopping)
    assert (tmp_path / "seed0" / "done").exists()
    assert not (tmp_path / "seed1" / "metrics.jsonl").exists()
    with pytest.raises(Interrupted, match="between two runs"):
        study.execute([study.Run("a", small(), tmp_path / "a")], stopping)


def test_fit_goes_on_and_is_done_once(cut, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, 5)) + y[:, None]
    sets = [(x, y, x[:12], y[:12]), (-x, y, -x[:12], y[:12])]
    how = dict(epochs=3, batch=8, network={"widths": (8,)}, quiet=True)
    whole = hatjax.fit(sets, workdir=tmp_path / "whole", **how)
    cut(lambda: hatjax.fit(sets, workdir=tmp_path / "cut", **how), 1)
    others = [(x, 2 - y, x[:12], y[:12]), sets[1]]
    with pytest.raises(InputError, match="labels of task 0 are not those"):
        hatjax.fit(others, workdir=tmp_path / "cut", **how)
    rest = hatjax.fit(sets, workdir=tmp_path / "cut", **how)
    np.testing.assert_array_equal(whole.accuracy, rest.accuracy)
    same(tmp_path / "whole", tmp_path / "cut")
    # What is finished is not learned again, and not overwritten by others.
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_all", None)
        np.testing.assert_array_equal(
            hatjax.fit(sets, workdir=tmp_path / "cut", **how).accuracy, whole.accuracy
        )
    with pytest.raises(InputError, match="labels of task 0 are not those"):
        hatjax.fit(others, workdir=tmp_path / "cut", **how)
    hatjax.fit(others, workdir=tmp_path / "cut", overwrite=True, **how)


@pytest.mark.slow
def test_what_checkpoints_cost(tmp_path, monkeypatch):
    """The share of the default run that is spent on saving its checkpoints and its model."""
    import orbax.checkpoint  # noqa: F401  it takes a second to import

    spent = []

    def timed(save):
        def call(*args):
            began = time.perf_counter()
            save(*args)
            spent.append(time.perf_counter() - began)

        return call

    monkeypatch.setattr(checkpoint, "save", timed(checkpoint.save))
    monkeypatch.setattr(results, "save", timed(results.save))
    began = time.perf_counter()
    run.run(config.make("digits", "hat"), tmp_path / "w")
    whole = time.perf_counter() - began
    share = sum(spent) / whole
    print(f"\n{len(spent)} saves, {sum(spent):.2f} s of {whole:.1f} s: {share:.1%}")
    assert share < 0.15


def test_the_clock():
    clock = checkpoint.Clock(3, 0)
    assert [clock.due(i) for i in range(1, 7)] == [False, False, True, False, False, True]
    clock = checkpoint.Clock(0, 1)
    assert not clock.due(1)
    clock.last -= 61
    assert clock.due(1)
    clock.reset()
    assert not clock.due(1)


def test_checkpoints_can_be_checked_by_hand(cut, tmp_path):
    cut(lambda: run.run(small(), tmp_path / "w"), (1, 0))
    folder = tmp_path / "w" / "checkpoints"
    newest = checkpoint.numbers(folder)[0]
    subprocess.run(
        ["sha256sum", "--check", "--quiet", trees.SUMS], cwd=folder / str(newest), check=True
    )
    about = json.loads((folder / str(newest) / "about" / "metadata").read_text())
    assert about["task"] == 1 and about["versions"]["jax"] == jax.__version__
