"""The real study command on tiny image sets: some approaches on three experiments; with HATJAX_SLOW
all approaches on five."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hatjax import config, plans
from hatjax.analysis import metrics
from hatjax.data import Raw, npz

SETS = config.MIXTURE
NO_SGD = ("random", "joint", "hat")  # what forgetting ratios need
SOME = (*NO_SGD, "sgd")
STUDY = """
import os

from hatjax import plans

slow = os.environ.get("HATJAX_SLOW")

def get_config():
    quick = {"epochs": 2, "batch": 8, "eval_batch": 16}
    mlp = {"network": {"widths": (30, 30)}}
    alexnet = {"network": {"widths": (12, 12, 12, 24, 24)}, "data": {"image": (12, 12, 3)}}
    more = {"mnist2": quick | mlp, "cifar": quick | alexnet | {"tasks": {"count": 2}}}
    return plans.study(
        "tiny",
        {
            "digits": quick | mlp | {
                "tasks": {"count": 2}, "data": {"examples": 60},
                "grid": {"hat": "approach.c=0.1,USUAL"},  # the usual: run once
            },
            "pmnist": quick | mlp | {"tasks": {"count": 2}, **({} if slow else ONE)},
            "mixture": quick | alexnet if slow else quick | {  # an MLP compiles sooner
                "network": {"name": "mlp", "widths": (12, 12)}, "approaches": NO_SGD,
                "data": {"sets": ("mnist", "cifar10", "notmnist"), "image": (12, 12, 3)},
            },
            "compression-mnist": quick | alexnet | {
                "approaches": ("hat",), "data": {"sets": ("mnist",), "image": (12, 12, 3)},
            },
            **(more if slow else {}),
        },
        **({} if slow else {"approaches": SOME}),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data root with ten tiny images a class of the sets, and the study's configuration."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for name in SETS:
        shape = (10, 10) if name in ("mnist", "fashion_mnist", "notmnist") else (12, 12, 3)
        y = np.arange(80) % 4
        x = rng.integers(0, 100, (80, *shape), np.uint8) + (40 * y).astype(np.uint8).reshape(
            -1, *[1] * len(shape)
        )
        npz.write(root / f"{name}.npz", Raw(x, y, x[:20], y[:20]))
    usual = f"{config.make('digits', 'hat').approach.c:g}"
    names = f"SOME, NO_SGD, ONE = {SOME}, {NO_SGD}, {{'approaches': ('hat',)}}\n"
    (root / "tiny.py").write_text(names + STUDY.replace("USUAL", usual))
    return root


def command(folder: Path, *args: str) -> subprocess.CompletedProcess:
    env = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "HATJAX_DATA": str(folder)}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiles twice as fast, and that is most of it
    return subprocess.run(
        [sys.executable, "-m", "hatjax.study", *args],
        cwd=folder, env=env, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip


def test_all_approaches_on_all_experiments(folder):
    slow = os.environ.get("HATJAX_SLOW")
    names = ("digits", "pmnist", "mixture") + (("mnist2", "cifar") if slow else ())
    rows_of = dict.fromkeys(names, config.APPROACHES if slow else SOME)
    if not slow:
        rows_of |= {"pmnist": ("hat",), "mixture": NO_SGD}
    count = sum(map(len, rows_of.values())) + 2  # the grid's other setting; compression
    done = command(folder, "tiny.py", "--workdir=all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    text = (folder / "all" / "study.md").read_text()
    assert text in done.stdout
    for experiment, approaches in rows_of.items():
        rows = text.split(f"**{experiment}**")[1].split("**")[0]
        assert all(f"| {config.APPROACHES[a].label} " in rows for a in approaches)
    assert len(list((folder / "all").glob("*/done"))) == count
    assert (folder / "all" / "digits-hat-seed0-c=0.1" / "done").exists()
    # It ends with the report.
    report = folder / "all" / "report"
    page = (report / "index.html").read_text()
    assert f"{count} runs, {count} finished" in page and (report / "tables.md").read_text() == text
    names = {path.stem for path in (report / "figures").glob("*.pdf")}
    assert len([name for name in names if name.startswith("matrix-")]) == count - 1
    kinds = {"fig3-rho-digits", "fig4-hyperparameters-digits", "fig5-capacity-mixture-hat"}
    assert kinds | {"fig6-reuse-pmnist-hat", "fig7-compression"} <= names
    assert "ρ≤2" in text and ("forward transfer" in text) == bool(slow)
    # Nothing is run twice; what is missing is.
    (folder / "all" / "digits-sgd-seed0" / "done").unlink()
    listed = command(folder, "tiny.py", "--workdir=all", "--dry_run").stdout
    assert "unfinished digits-sgd-seed0\n" in listed and listed.count("finished ") == count
    again = command(folder, "tiny.py", "--workdir=all")
    assert again.returncode == 0 and again.stdout.count("finished before") == count - 1
    assert again.stdout.count("results in") == 1


def test_a_failed_run_does_not_stop_the_others(folder):
    args = (
        "tiny.py",
        "--workdir=some",
        "--config.experiments={'mnist2': {'epochs': 1, 'data': {'sets': ('mnist', 'nothing')}}, "
        "'digits': {'epochs': 1, 'tasks': {'count': 2}, 'network': {'widths': (4,)}}}",
        "--config.approaches=('random', 'joint', 'sgd')",
    )
    listed = command(folder, *args, "--dry_run")
    assert listed.returncode == 0 and listed.stdout.count("to do") == 6
    assert not (folder / "some").exists()
    done = command(folder, *args)
    assert done.returncode == 1 and "3 of 6 runs failed" in done.stdout
    assert re.search("mnist2-sgd-seed0: .*'nothing'", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
    rows = (folder / "some" / "study.md").read_text()
    page = (folder / "some" / "report" / "index.html").read_text()
    assert "mnist2-sgd-seed0 failed: " in page and "6 runs, 3 finished" in page
    assert not (folder / "some" / "mnist2-sgd-seed0").exists()
    # The same workdirs under another configuration: refused, and not taken for this study's.
    other = command(folder, *args, "--config.experiments.digits.epochs=2")
    assert other.returncode == 1 and "6 of 6 runs failed" in other.stdout
    assert "| Joint |  | 0 |" in (folder / "some" / "study.md").read_text()
    assert re.search(r"\| Joint \| .*\| \+0\.00 \|.*\| 1 \|", rows) and "| SGD |  | 0 |" in rows


@pytest.mark.parametrize(
    "args, says",
    [
        (["--config.approaches=('sdg',)"], "Did you mean 'sgd'"),
        (["--config.approaches=()"], "the study has no runs"),
        (["--config.experiments={'digits': {'seeds': 3}}"], "digits.seeds: a study sets it"),
        (["--config.experiments={'pmnits': {}}"], "Did you mean 'pmnist'"),
        (["--config.experiments={'pmnist': {'epoch': 3}}"], "Did you mean 'epochs'"),
        (["--config.experiments={'pmnist': {'epochs': 0}}"], "config.epochs = 0: expected"),
        (["--config.experiments={'pmnist': {'epochs': 'x'}}"], "config.experiments.pmnist"),
        (
            ["--config.experiments={'pmnist': {'grid': {'sdg': 'lr=1'}}}"],
            "pmnist.grid: expected a grid",
        ),
        (["--config.experiments={'pmnist': {'grid': {'hat': 'c=1'}}}"], "field of config.grid 'c'"),
        (["--config.scale=tiny"], "unknown config.scale 'tiny'. Known: paper, small"),
        (["--config.experiments={'pmnist': {'data': 3}}"], "field of experiment 'pmnist' 'data'"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(folder, args, says):
    done = command(folder, "tiny.py", "--workdir=no", *args)
    assert done.returncode == 2 and not (folder / "no").exists()
    assert len(done.stderr.strip().splitlines()) == 1 and says in done.stderr, done.stderr
    assert done.stderr.startswith("error: ")


def test_forgetting_ratio_is_equation_6():
    random, joint = np.diag([0.5, 0.2]), np.array([[0.9, 0.0], [0.8, 0.7]])
    acc = np.array([[0.7, 0.0], [0.65, 0.7]])
    rho = metrics.forgetting_ratio(acc, random, joint)
    np.testing.assert_allclose(rho, [0.2 / 0.4 - 1, (0.15 / 0.3 - 1 + 0.5 / 0.5 - 1) / 2])
    np.testing.assert_allclose(metrics.forgetting_ratio(joint, random, joint), 0)
    guess = np.tril(np.ones((2, 2))) * np.diag(random)
    np.testing.assert_allclose(metrics.forgetting_ratio(guess, random, joint), -1)


def test_a_forgotten_task_is_left_out_of_the_forgetting_ratio():
    acc = np.array([[0.9, 0, 0], [0.9, 0.7, 0], [np.nan, 0.7, 0.8]])
    one = np.tril(np.ones((3, 3)))
    rho = metrics.forgetting_ratio(acc, 0.1 * one, 0.9 * one)
    np.testing.assert_allclose(rho, [0, -0.125, (-0.25 - 0.125) / 2])
    acc[2] = np.nan
    assert np.isnan(metrics.forgetting_ratio(acc, 0.1 * one, 0.9 * one)[2])


def test_a_study_is_not_for_main(folder):
    env = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "hatjax.main", "--config=tiny.py"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "error: this is the configuration of a study" in done.stderr


def test_how_gates_start():
    """As the paper's, but open where a task has few steps to learn in."""
    of = {name: config.make(name, "hat").approach.gate_init for name in config.EXPERIMENTS}
    assert {name for name, start in of.items() if start == "uniform"} == {"digits", "compression"}
    small = plans.study("s", {"cifar": {}}, ("hat", "sgd"), scale="small")
    found = plans.runs(small)
    assert found["cifar-hat-seed0"].approach.gate_init == "uniform"
    assert "gate_init" not in found["cifar-sgd-seed0"].approach


def test_an_experiment_on_any_image_set():
    names = ("fashion_mnist-split5", "digits-split5", "digits-mine")
    study = plans.study("some", dict.fromkeys(names, {}), approaches=("hat",))
    runs = [plans.runs(study)[f"{name}-hat-seed0"] for name in names]
    assert [(c.data.sets, c.tasks.kind, c.tasks.count) for c in runs] == [
        (("fashion_mnist",), "split", 5), (("digits",), "split", 5), (("digits",), "permuted", 10)
    ]  # fmt: skip
