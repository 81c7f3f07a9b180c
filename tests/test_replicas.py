"""Many runs in one program: a replica's numbers are those of the same run alone."""

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from hatjax import config, plans
from hatjax.analysis import models
from hatjax.data import Raw, npz
from hatjax.experiment import run
from hatjax.workdir import files

# Batched products are summed in another order than single ones; nothing else differs.
CLOSE = dict(rtol=2e-3, atol=2e-5)


def small(approach: str):
    c = config.make("digits", approach)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 3, 3, (16, 16), 200
    return c


def same(one: Path, other: Path) -> None:
    """The two workdirs hold the same finished run."""
    assert (one / "done").exists() and (other / "done").exists()
    a, b = models.load(one), models.load(other)
    assert not files.differences(a.config, b.config) and a.names == b.names
    pairs = zip(*(jax.tree.leaves((m.params, m.memory)) for m in (a, b)), strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, **CLOSE)
    accs = [np.load(w / "accuracy.npy") for w in (one, other)]
    np.testing.assert_allclose(*accs, rtol=1e-6)  # as many right, divided in one way or another
    if a.config.approach.name == "random":
        return
    lines = [(w / "metrics.jsonl").read_text().splitlines() for w in (one, other)]
    assert len(lines[0]) == len(lines[1])
    for x, y in zip(*lines, strict=True):
        x, y = json.loads(x), json.loads(y)
        assert x.keys() == y.keys()
        np.testing.assert_allclose(list(x.values()), list(y.values()), **CLOSE)


def check(c, folder: Path) -> dict[str, Path]:
    """Runs all replicas of `c` together and each alone."""
    runs = plans.replicas(c)
    run.run_sweep(folder / "all", runs)
    for name, own in runs.items():
        run.run(own, folder / "alone" / name)
        same(folder / "all" / name, folder / "alone" / name)
    return {name: folder / "all" / name for name in runs}


# The contract has all approaches in company, without the program around them.
@pytest.mark.parametrize(
    "name",
    ["hat"]
    + [
        pytest.param(k, marks=pytest.mark.slow)
        for k in ("pathnet", "joint", "random", "lwf", "ewc", "progressive")
    ],
)
def test_seeds_together_are_the_seeds_alone(name, tmp_path):
    c = small(name)
    c.seeds = 2
    check(c, tmp_path)


def test_a_grid_and_replicas_that_stop_at_different_epochs(tmp_path):
    c = small("hat")
    c.epochs, c.tasks.count = 8, 2
    c.lr_patience, c.lr_min, c.grid = 1, 0.01, "lr=0.05,1e-12 approach.c=0.1,4"
    c.approach.gate_init = "normal"
    where = check(c, tmp_path)
    assert list(where)[:2] == ["seed0-lr=0.05-c=0.1", "seed0-lr=0.05-c=4"] and len(where) == 4
    counts = {len((w / "metrics.jsonl").read_text().splitlines()) for w in where.values()}
    assert len(counts) > 1
    assert files.read_config(where["seed0-lr=1e-12-c=4"]).approach.c == 4.0


def unequal(folder: Path):
    """A configuration whose tasks, in the seed's order, have different sizes and classes."""
    rng = np.random.default_rng(0)
    for name, n, classes in (("a", 60, 2), ("b", 90, 3), ("c", 30, 2)):
        y = np.arange(n) % classes
        x = rng.integers(0, 60, (n, 6, 6), np.uint8) + (60 * y[:, None, None]).astype(np.uint8)
        npz.write(folder / f"{name}.npz", Raw(x, y, x[:20], y[:20]))
    c = config.make("mixture", "hat")
    c.data.sets, c.data.image, c.data.root = ("a", "b", "c"), (), str(folder)
    c.network = config.make("digits", "hat").network
    c.network.widths, c.epochs, c.batch, c.eval_batch = (12, 12), 3, 8, 16
    return c


@pytest.mark.parametrize("name", ["hat", pytest.param("joint", marks=pytest.mark.slow)])
def test_task_orders_of_different_lengths(name, tmp_path):
    c = unequal(tmp_path)
    c.approach = config.make("digits", name).approach
    c.seeds = 3
    where = check(c, tmp_path)
    orders = {models.load(w).names for w in where.values()}
    assert len(orders) > 1


def test_in_chunks_and_one_that_diverges(tmp_path, capsys):
    c = small("sgd")
    c.grid, c.approach.clip = "lr=0.05,1e30,0.1", 1e30
    runs = plans.replicas(c)
    with pytest.raises(run.Diverged, match=r"seed0-lr=1e\+30: the loss is not a finite number"):
        run.run_sweep(tmp_path, runs, at_once=2)
    assert "3 runs, 2 at once" in capsys.readouterr().out
    done = [name for name in runs if (tmp_path / name / "done").exists()]
    assert done == ["seed0-lr=0.05", "seed0-lr=0.1"]
    for name in done:
        run.run(runs[name], tmp_path / "alone" / name)
        same(tmp_path / name, tmp_path / "alone" / name)


def command(folder: Path, *args: str, devices: int = 1) -> subprocess.CompletedProcess:
    env = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles faster, and that is most of it
    env["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    tiny = ["--config.network.widths=(16,16)", "--config.tasks.count=2", "--config.epochs=2"]
    return subprocess.run(
        [sys.executable, "-m", "hatjax.main", *tiny, *args],
        cwd=folder, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_command_on_one_device_and_on_two(tmp_path):
    for devices in (1, 2):
        done = command(tmp_path, f"--workdir={devices}", "--config.seeds=3", devices=devices)
        assert done.returncode == 0, done.stderr
        assert "mean of 3 of 3 runs" in done.stdout and "±" in done.stdout
    for seed in range(3):
        same(tmp_path / "1" / f"seed{seed}", tmp_path / "2" / f"seed{seed}")
    # More seeds: only those that are not there are run.
    done = command(tmp_path, "--workdir=1", "--config.seeds=4")
    assert done.returncode == 0 and "task 2/2 digits permuted 1: test accuracy" in done.stdout
    assert all(f"seed{seed} " in done.stdout for seed in range(4))
    again = command(tmp_path, "--workdir=1", "--config.seeds=4")
    assert again.returncode == 0 and "epoch" not in again.stdout and "seed3 " in again.stdout


def test_two_processes_are_one(tmp_path):
    """Two hosts with four devices each, on the loopback, against one device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = ["--config.seeds=3", "--distributed", f"--coordinator=127.0.0.1:{port}"]
    args += ["--processes=2", "--config.lr_patience=1"]
    with ThreadPoolExecutor() as hosts:
        done = list(
            hosts.map(
                lambda i: command(tmp_path, "--workdir=two", *args, f"--process={i}", devices=4),
                range(2),
            )
        )
    assert [d.returncode for d in done] == [0, 0], [d.stderr[-2000:] for d in done]
    assert "±" in done[0].stdout and "accuracy" not in done[1].stdout
    alone = command(tmp_path, "--workdir=one", "--config.seeds=3", "--config.lr_patience=1")
    assert alone.returncode == 0
    for seed in range(3):
        same(tmp_path / "two" / f"seed{seed}", tmp_path / "one" / f"seed{seed}")


@pytest.mark.parametrize(
    "args, says",
    [
        (["--distributed"], "here is only one: give several by --config.seeds"),
        (["--distributed", "--config.seeds=2"], "--coordinator=HOST:PORT, --processes=N"),
        (["--coordinator=here:1"], "need --distributed"),
        (["--config.grid=lr=0.1,0.1000001"], "two of its settings look alike, seed0-lr=0.1"),
        (["--config.grid=lr=0.1 lr=0.2"], "lr is there twice"),
        (["--config.approach.name=pathnet"], "--config configs/baseline.py:pathnet,EXPERIMENT"),
        (["--config.approach.name=ewc"], "that of another approach, without approach.lamb"),
        (["--config.approach.gated=False"], "'hat' needs True"),
        (["--config.seeds=0"], "config.seeds = 0: expected a whole number of at least 1"),
        (["--config.grid=approach.s_mox=3"], "Did you mean 'approach.s_max'"),
        (["--config.grid=approach.s_max=3,x"], "expected numbers after approach.s_max="),
        (["--config.grid=approach.s_max=3,0.5"], "config.approach.s_max = 0.5: expected"),
        (["--config.grid=seed=3"], "it cannot vary seed: give --config.seeds"),
    ],
)
def test_bad_input(tmp_path, args, says):
    done = command(tmp_path, *args)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
