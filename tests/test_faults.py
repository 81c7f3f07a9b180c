"""What goes wrong while a run trains: the disk, the loss, the memory; and what it says then."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from hatjax import config, plans
from hatjax.data import memory
from hatjax.errors import Diverged, InputError, Unwritable
from hatjax.experiment import checkpoint, run
from hatjax.experiment.memory import advice
from hatjax.training import device_memory
from hatjax.workdir import files, results, trees
from tests import hostile

CONFIGS = Path(__file__).parents[1] / "configs"


def small(approach: str = "sgd", **changes) -> ConfigDict:
    c = config.make("digits", approach)
    c.network.widths, c.tasks.count, c.data.examples, c.epochs = (12, 12), 2, 300, 4
    c.update(changes)
    return c


def lines(where: Path) -> list[dict]:
    return [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "approach",
    ["hat", "pathnet", *(pytest.param(k, marks=pytest.mark.slow) for k in ("sgd", "ewc"))],
)
def test_a_loss_that_is_not_a_number(tmp_path, approach):
    c = small(approach)
    c.lr, c.approach.clip = 1e38, 1e38
    with pytest.raises(Diverged) as told:
        run.run(c, tmp_path / "w")
    text = str(told.value)
    assert "task 1, epoch 1, step " in text and "--config.lr (now 1e+38)" in text
    assert re.search(r"the largest gradient of step \d+ is that of (trunk|gates|head)/\S+ \(", text)
    assert "--config.on_nan=lower" in text
    assert (tmp_path / "w" / "diverged").read_text() == text
    assert not (tmp_path / "w" / "done").exists()


def test_lower_goes_on_with_a_lower_rate(tmp_path, capsys):
    c = small(lr=3e29, lr_factor=1e30, on_nan="lower", epochs=6)
    c.approach.clip = 1e38
    acc = run.run(c, tmp_path / "w")
    out = capsys.readouterr().out
    assert "warning: the loss is not a finite number in task 1, epoch 1" in out
    assert "back to before this epoch, with the rate 0.3" in out
    assert np.isfinite(acc).all() and acc[0, 0] > 0.2
    rows = lines(tmp_path / "w")
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    first = next(row for row in rows if row["task"] == 0)
    assert first["epoch"] == 1 and first["lr"] == pytest.approx(0.3)


@pytest.mark.parametrize("on_nan", ["stop", "lower"])
def test_a_pull_that_overflows(tmp_path, on_nan):
    """The loss is finite and its gradient, too, but not the norm: nothing would ever move."""
    c = small("ewc", on_nan=on_nan, epochs=2)
    c.approach.lamb = 1e30
    for _ in range(2):  # repeated, it goes on to the same end
        with pytest.raises(Diverged) as told:
            run.run(c, tmp_path / "w")
    text = str(told.value)
    assert "the likely cause is --config.approach.lamb (now 1e+30), where 0 to 1e+06" in text
    assert "--config.lr" not in text and "on_nan" not in text
    if on_nan == "stop":
        assert re.search("task 2, .* of trunk/.* too large for 32-bit numbers when squared", text)
    else:
        assert "every epoch of task 2 ended with a loss that is not a finite number" in text
    assert (tmp_path / "w" / "diverged").read_text() == text
    # What was learned stays, and it is not done.
    assert (tmp_path / "w" / "model").exists() and not (tmp_path / "w" / "done").exists()
    assert results.read_accuracy(tmp_path / "w")[0, 0] > 0


def test_a_task_without_an_epoch_ends_its_run_alone(tmp_path, capsys):
    """The others of the sweep go on."""
    c = small(on_nan="lower", epochs=3)
    c.grid = "lr=0.05,1e30"
    with pytest.raises(Diverged, match=r"^seed0-lr=1e\+30: every epoch of task 1 ended with"):
        run.run_sweep(tmp_path, plans.replicas(c))
    done, lost = tmp_path / "seed0-lr=0.05", tmp_path / "seed0-lr=1e+30"
    assert (done / "done").exists() and not (lost / "done").exists()
    assert "smaller --config.lr (now 1e+30)" in (lost / "diverged").read_text()
    assert lines(done)[-1]["task"] == 1 and not (lost / "metrics.jsonl").exists()


def test_the_state_before_is_kept_and_lower_goes_on_from_it(tmp_path, capsys):
    """A run that diverges in a later epoch, since its rate is raised there."""
    c = small(epochs=6)
    where, save = tmp_path / "w", checkpoint.save
    # As if it had learned with lr 0.05 so far: its checkpoint says that the rate is high now.
    c.checkpoint.epochs = 1
    monkey = pytest.MonkeyPatch()

    def raised(inputs, progress, only=None):
        if (progress.task, progress.epoch) == (0, 2):
            schedule = progress.state.schedule
            schedule = schedule._replace(lr=jnp.full_like(schedule.lr, 1e30))
            progress.state = progress.state._replace(schedule=schedule)
        save(inputs, progress, only)
        if (progress.task, progress.epoch) == (0, 2):
            raise KeyboardInterrupt

    monkey.setattr(checkpoint, "save", raised)
    with pytest.raises(KeyboardInterrupt):
        run.run(c, where)
    monkey.undo()
    for _ in range(2):  # it diverges again in the same place
        with pytest.raises(Diverged, match="task 1, epoch 3, step "):
            run.run(c, where)
        folder = where / "checkpoints"
        about = checkpoint.read_about(folder, checkpoint.numbers(folder)[0])
        assert (about["task"], about["epoch"]) == (0, 2)
        assert [row["epoch"] for row in lines(where)] == [0, 1]
    c.on_nan, c.lr_factor = "lower", 3.0
    capsys.readouterr()
    run.run(c, where)
    out = capsys.readouterr().out
    assert "going on after task 1, epoch 2" in out and "with the rate 3.3e+29" in out
    assert (where / "done").exists() and not (where / "diverged").exists()
    assert not (where / "checkpoints").exists()


def test_one_of_a_sweep_diverges(tmp_path, capsys):
    """The others learn as without a pause, though the sweep is cut off afterwards.

    The run itself goes on alone from before that epoch when the command is repeated.
    """
    c = small(epochs=4, seeds=1, lr_factor=1e30)
    c.grid, c.approach.clip, c.checkpoint.epochs = "lr=0.05,1e30,0.1", 1e38, 1
    runs = plans.replicas(c)
    with pytest.raises(Diverged):
        run.run_sweep(tmp_path / "whole", runs)
    save = checkpoint.save
    monkey = pytest.MonkeyPatch()

    def cut(inputs, progress, only=None):
        save(inputs, progress, only)
        if (progress.task, progress.epoch) == (1, 1):
            raise KeyboardInterrupt

    monkey.setattr(checkpoint, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run.run_sweep(tmp_path / "cut", runs)
    monkey.undo()
    with pytest.raises(Diverged, match=r"lr=1e\+30") as error:
        run.run_sweep(tmp_path / "cut", runs)
    assert str(error.value).count("is not a finite number") == 1
    for name in ("seed0-lr=0.05", "seed0-lr=0.1"):
        for file in ("metrics.jsonl", "accuracy.npy", "done"):
            one, other = (tmp_path / k / name / file for k in ("whole", "cut"))
            assert one.read_bytes() == other.read_bytes()
    lost = tmp_path / "cut" / "seed0-lr=1e+30"
    assert "lr=1e+30" in (lost / "diverged").read_text() and (lost / "checkpoints").exists()
    assert not (tmp_path / "cut" / "checkpoints").exists()
    for own in runs.values():
        own.on_nan, own.lr_factor = "lower", 3.0
    with pytest.raises(InputError, match="lr_factor: 1e.30, now 3.0"):
        run.run_sweep(tmp_path / "cut", runs)
    for own in runs.values():
        own.lr_factor = 1e30
    capsys.readouterr()
    run.run_sweep(tmp_path / "cut", runs)
    assert "back to before this epoch, with the rate" in capsys.readouterr().out
    assert (lost / "done").exists() and not (lost / "diverged").exists()


def test_the_folder_vanishes(tmp_path, monkeypatch):
    append = results.append

    def vanish(where, row):
        if row["task"] == 1 and row["epoch"] == 1:
            shutil.rmtree(where)
        append(where, row)

    monkeypatch.setattr(results, "append", vanish)
    with pytest.raises(Unwritable, match="w cannot be written .*the folder is gone"):
        run.run(small(), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def command(
    folder: Path, *args: object, most: int = -1, cache: Path | None = None
) -> subprocess.CompletedProcess:
    """`python -m hatjax.main ARGS`, whose files cannot grow beyond `most` bytes."""
    code = (
        f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, -1));"
        "runpy.run_module('hatjax.main', run_name='__main__')"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(cache or folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory) -> tuple[list[str], Path, Path]:
    """The flags of a run, its workdir, and its compiled programs."""
    args = ["--workdir=w", "--config.network.widths=(90,90)", "--config.tasks.count=2"]
    args += ["--config.epochs=6", "--config.checkpoint.epochs=2"]
    folder = tmp_path_factory.mktemp("unlimited")
    assert command(folder, *args).returncode == 0
    return args, folder / "w", folder / "cache"


@pytest.mark.parametrize(
    "most", [2_000, pytest.param(60_000, marks=pytest.mark.slow), 150_000]
)
def test_the_disk_is_full(tmp_path, unlimited, most):
    """Metrics, checkpoint or model fail in turn."""
    args, whole, cache = unlimited
    full = command(tmp_path, *args, most=most, cache=cache)
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    assert "error: workdir w cannot be written (" in full.stderr.splitlines()[-1]
    assert "File too large" in full.stderr and "goes on from there" in full.stderr
    # There is room again.
    assert command(tmp_path, *args, cache=cache).returncode == 0
    for name in ("metrics.jsonl", "accuracy.npy"):
        assert (tmp_path / "w" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("kind", ["checkpoint", "model", "tasks"])
def test_the_disk_is_full_halfway(tmp_path, monkeypatch, capfd, kind):
    """It has room when that is looked at, and none when it is written: one line, nothing left."""
    monkeypatch.setattr(trees, "check_disk_space", lambda *args: None)
    tree = {"a": np.random.default_rng(0).random(10**4), "b": np.ones(3)}
    (tmp_path / "checkpoints").mkdir()
    before = hostile.snapshot(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**3, hard))
    try:
        with pytest.raises(Unwritable) as told, files.writing(tmp_path):
            if kind == "checkpoint":
                trees.add_checkpoint(tmp_path / "checkpoints", 0, 2, tree, {})
            elif kind == "model":
                results.save(tmp_path, np.eye(2), np.eye(2), tree, {})
            else:
                files.write_bytes(tmp_path / "tasks.npz", bytes(10**4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"workdir {tmp_path} cannot be written (File too large). What was" in str(told.value)
    assert hostile.snapshot(tmp_path) == before and capfd.readouterr() == ("", "")


def test_files_where_they_do_not_belong(tmp_path):
    """One line each; a finished run without its numbers is told, and not run again by itself."""
    args = ["--config.network.widths=(9,9)", "--config.tasks.count=1", "--config.epochs=1"]
    w = tmp_path / "w"
    (w / "diverged").mkdir(parents=True)
    (w / "config.json").write_text("{}")
    assert command(tmp_path, *args, "--workdir=w").returncode == 2  # another configuration
    assert command(tmp_path, *args, "--workdir=w", "--overwrite").returncode == 0
    for damage in (lambda p: p.write_bytes(b"x"), lambda p: p.unlink(), lambda p: p.mkdir()):
        damage(w / "accuracy.npy")
        done = command(tmp_path, *args, "--workdir=w")
        assert done.returncode == 2 and "w is damaged (" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "config.json").write_bytes((w / "config.json").read_bytes())
    (tmp_path / "t" / "tensorboard").touch()
    for folder, status in (("t", 0), ("x" * 300, 2), ("t/config.json", 2)):
        done = command(tmp_path, *args, f"--workdir={folder}", "--tensorboard")
        assert done.returncode == status and len(done.stderr.splitlines()) == (status > 0)


def test_more_than_the_memory_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "size", lambda: 10**4)
    with pytest.raises(InputError, match="config.batch = 32: the train images .* a smaller one"):
        run.run(small(), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_what_would_fit(monkeypatch):
    c = small("hat")
    c.network.widths, c.batch, c.eval_batch = (200, 200), 64, 512
    sequence, network = run.prepare(c)
    approach = run.approaches.make(c, network)
    one = device_memory.bytes_of_one(c, approach, sequence)

    def fitting(share: float, count: int) -> str:
        free = share * one / device_memory.SHARE
        return device_memory.fitting(c, approach, sequence, count, free)

    assert fitting(3.5, 9).endswith("--config.at_once=3")
    assert "--config.batch=32 --config.eval_batch=256" in fitting(0.95, 1)
    assert "a smaller network" in fitting(0.01, 1)
    monkeypatch.setattr(device_memory, "free_memory", lambda: 0.01 * one)
    for said in ("RESOURCE_EXHAUSTED: 8 bytes", "INTERNAL: Out of memory allocating 8 bytes"):
        with pytest.raises(InputError, match="out of memory: a run takes about"):
            with advice(c, approach, sequence, 1):
                raise jax.errors.JaxRuntimeError(said)
    with pytest.raises(jax.errors.JaxRuntimeError), advice(c, approach, sequence, 1):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
