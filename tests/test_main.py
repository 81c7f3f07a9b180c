"""The real command, as a user calls it: what a run leaves, what bad input is told."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hatjax import data
from hatjax.analysis import models
from hatjax.data import npz
from hatjax.experiment import run, stop

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = ["--config.network.widths=(16,16)", "--config.tasks.count=2", "--config.epochs=2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(tmp_path, cache):
    """Runs `python -m hatjax.main ARGS` in an empty folder; returns (exit status, out, err)."""
    env = os.environ | {"XDG_CACHE_HOME": str(cache), "COLUMNS": "100"}
    env.pop("HATJAX_DATA", None)

    def call(*args, **more):
        done = subprocess.run(
            [sys.executable, "-m", "hatjax.main", *map(str, args)],
            cwd=tmp_path, env=env | more, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_run_and_what_it_leaves(command, tmp_path):
    status, out, err = command(*TINY, "--workdir=w")
    assert status == 0, err
    assert "average accuracy" in out and "backward transfer" in out and "forgetting" in out
    assert "capacity used" in out and "fc2" in out and "results in w" in out
    assert re.search(r"task 2/2  epoch 2/2  s 0.0025..400  loss .* valid .* lr .* left", out)
    w = tmp_path / "w"
    config = json.loads((w / "config.json").read_text())
    assert config["epochs"] == 2 and config["network"]["widths"] == [16, 16]
    acc = np.load(w / "accuracy.npy")
    assert acc.shape == (2, 2) and acc[0, 1] == 0 and (acc[np.tril_indices(2)] > 0).all()
    np.testing.assert_allclose(np.loadtxt(w / "accuracy.txt"), acc, atol=5e-5)
    rows = [json.loads(line) for line in (w / "metrics.jsonl").read_text().splitlines()]
    assert [(r["task"], r["epoch"]) for r in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # The model read back predicts what the matrix says.
    model = models.load(w)
    raw = data.load("digits", tmp_path)
    for task in range(2):
        guess = np.argmax(models.predict(model, raw.x_test, task), axis=-1)
        assert np.mean(guess == raw.y_test) == pytest.approx(acc[1, task], abs=1e-6)

    status, out, _ = command(*TINY, "--workdir=w")
    assert status == 0 and "finished before" in out and "average accuracy" in out
    status, _, err = command(*TINY, "--workdir=w", "--config.lr=0.1")
    assert status == 2 and "config.lr: 0.05, now 0.1" in err and "--overwrite" in err
    status, out, _ = command(*TINY, "--workdir=w", "--config.lr=0.1", "--overwrite")
    assert status == 0 and json.loads((w / "config.json").read_text())["lr"] == 0.1


def test_a_sweep_of_which_a_run_diverges_shows_the_others(command):
    status, out, err = command(*TINY, "--workdir=w", "--config.grid=lr=0.05,1e30")
    assert status == 1 and err.count("\nerror: ") + err.startswith("error: ") == 1, err
    assert re.search(r"seed0-lr=0.05 +[0-9.]+%", out) and "lr=1e+30  " not in out


def test_dry_run_and_help(command, tmp_path):
    status, out, _ = command("--dry_run", "--config.approach.s_max=200")
    assert status == 0 and '"s_max": 200.0' in out and "234,500 parameters" in out
    assert "digits permuted 9" in out and not list(tmp_path.iterdir())
    begin = time.monotonic()
    status, out, _ = command("--help")
    assert "--config" in out and "configs/hat_pmnist.py" in out
    assert time.monotonic() - begin < 3


def test_sgd_on_folders_of_one_s_own(command, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog", "eel", "fox"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(8):
                image = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
                image.save(folder / f"{i}.png")
    config = f"{CONFIGS / 'hat_split.py'}:pets,2"
    status, out, err = command(
        f"--config={config}",
        "--config.data.root=.",
        "--config.epochs=1",
        "--config.network.widths=(8,)",
    )
    assert status == 0, err
    assert (tmp_path / "results" / "pets-split2-hat-seed0" / "done").exists()


def bad(*args, says: str, name: str):
    return pytest.param(args, says, id=name)


@pytest.mark.parametrize(
    "args, says",
    [
        bad("--config=nope.py", says="no configuration file nope.py.*hat_digits.py", name="file"),
        bad("--config.epoch=3", says='Did you mean "epochs"', name="field"),
        bad("--config.epoch=3", says="configuration: 'epoch'. Did you", name="quotes"),
        bad("--config.approach.s_mox=3", says='Did you mean "s_max"', name="deep field"),
        bad("--config.epochs=many", says="config.epochs=many", name="type"),
        bad("--config.lr=nan", says="config.lr = nan: expected a finite number", name="range"),
        bad("--works=3", says="Did you mean: workdir", name="flag"),
        bad("stray", says="unknown argument 'stray'", name="argument"),
        bad(
            f"--config={CONFIGS}/baseline.py:sdg,digits", says="Did you mean 'sgd'", name="approach"
        ),
        bad(f"--config={CONFIGS}/hat_split.py:digit,5", says="Did you mean 'digits'", name="set"),
        bad(
            f"--config={CONFIGS}/hat_split.py:digits,11",
            says="10 classes.*at most 10",
            name="classes",
        ),
        bad("--workdir=/proc/no", says="workdir /proc/no cannot be written", name="workdir"),
        bad("--config.data.examples=1", says="has no valid images", name="empty split"),
        bad(
            "--config.data.examples=12", says="has no train image of its class", name="class absent"
        ),
    ],
)
def test_bad_input_is_one_line(command, args, says):
    status, out, err = command(*args)
    assert status == 2
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")
    assert re.search(says, err), err


def test_download_impossible(command, tmp_path):
    proxy = "http://127.0.0.1:9"  # nothing listens there
    status, _, err = command(
        f"--config={CONFIGS / 'hat_mnist2.py'}", f"--config.data.root={tmp_path}/root",
        http_proxy=proxy, https_proxy=proxy, no_proxy="",
    )  # fmt: skip
    assert status == 2 and len(err.strip().splitlines()) == 1
    assert (
        "torchvision.datasets.MNIST" in err and "root/MNIST/raw" in err and "hat_digits.py" in err
    )


def test_truncated_files(command, tmp_path):
    x, y = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    npz.write(tmp_path / "mine.npz", data.Raw(x, y, x, y))
    whole = (tmp_path / "mine.npz").read_bytes()
    (tmp_path / "mine.npz").write_bytes(whole[: len(whole) // 2])
    status, _, err = command(f"--config={CONFIGS}/hat_split.py:mine,2", "--config.data.root=.")
    assert status == 2 and "mine.npz: not a readable .npz file" in err
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03\0\0")
    status, _, err = command(f"--config={CONFIGS}/hat_mnist2.py", "--config.data.root=.")
    assert status == 2 and len(err.strip().splitlines()) == 1 and "MNIST" in err


def test_a_loss_that_is_not_a_number(command, tmp_path):
    status, _, err = command(*TINY, "--config.lr=1e30", "--workdir=w")
    assert status == 1 and len(err.strip().splitlines()) == 1
    assert "task 1, epoch 1, step " in err and "--config.lr" in err
    assert "finished tasks" not in err  # there are none


def test_ctrl_c_keeps_finished_tasks(tmp_path, cache):
    process = subprocess.Popen(
        [sys.executable, "-m", "hatjax.main", "--workdir=w", "--config.epochs=3"],
        cwd=tmp_path, env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("task 2/10") and "test accuracy" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == stop.RESUME
    assert "error: stopped after task" in err and "Traceback" not in err
    acc = np.load(tmp_path / "w" / "accuracy.npy")
    assert acc[1, 0] > 0
    assert len(models.load(tmp_path / "w").names) == 10
    assert "average accuracy" in run.recall(tmp_path / "w")
