"""A task that has learned nothing is told, with the likely cause."""

import numpy as np
import pytest

from hatjax import config, plans
from hatjax.errors import InputError
from hatjax.experiment import causes, outcome, run


def test_closed_layers():
    gates = {"a": np.zeros(400), "b": np.r_[np.ones(2), np.zeros(398)], "c": np.full(8, 0.1)}
    assert outcome.closed(gates) == ["a", "c"]
    assert outcome.closed({"d": np.r_[1.0, np.zeros(7)]}) == [] == outcome.closed({})


@pytest.mark.parametrize(
    "y, classes, want",
    [
        (np.arange(100) % 4, 4, 0.25 + np.sqrt(0.25 * 0.75 / 100)),  # as many of each
        (np.r_[np.zeros(90), np.arange(10) % 4], 4, 0.93),  # mostly of one class
        (np.zeros(5), 2, 1.0), (np.arange(3) % 1, 1, 1.0), (np.zeros(0), 3, 1.0),  # who knows
    ],
)  # fmt: skip
def test_chance(y, classes, want):
    assert outcome.guessing(y, classes) == pytest.approx(want)


@pytest.mark.parametrize(
    "approach, fields, says",
    [
        ("hat", {"approach.c": 1000.0}, r"--config.approach.c \(now 1000.0\), where 0 to 4 is"),
        ("hat", {"lr": 100.0, "approach.s_max": 1e9}, "approach.s_max .* and --config.lr .* 1 is"),
        ("hat", {}, r"^try more --config.epochs \(now 40\), .*lr \(.*approach.c .*approach.s_max"),
        ("sgd", {"approach.clip": 1e-30}, r"the likely cause is --config.approach.clip \(now 1e-3"),
        ("random", {}, "^try more --config.epochs"),
    ],
)  # fmt: skip
def test_likely_causes(approach, fields, says):
    c = config.make("digits", approach)
    c.update_from_flattened_dict(fields)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(causes.of_no_learning(c))


def test_no_default_is_unusual():
    for name in config.APPROACHES:
        for experiment in config.EXPERIMENTS:
            assert not causes.unusual(config.make(experiment, name)), (name, experiment)


def test_what_learns_nothing_is_told(tmp_path, capsys):
    c = config.make("digits", "hat")
    c.tasks.count, c.epochs, c.network.widths = 1, 4, (40, 40)
    c.grid = "approach.c=0.1,1000 approach.s_max=400,1e10 lr=0.05,100"
    run.run_sweep(tmp_path, plans.replicas(c))
    told = [line for line in capsys.readouterr().out.splitlines() if "warning: task 1/1" in line]
    assert any("no open unit in fc1, fc2 in " in line for line in told), told
    silent = {"seed0-c=0.1-s_max=400-lr=0.05"}
    names = {name for line in told for name in plans.replicas(c) if f"({name}" in line}
    assert not names & silent and all(": the likely cause is --config." in line for line in told)


def test_s_max_whose_square_overflows_is_refused(tmp_path):
    c = config.make("digits", "hat")
    c.approach.s_max = 1e20
    with pytest.raises(InputError, match=r"s_max = 1e\+20: expected .* at most 1e18"):
        run.run(c, tmp_path / "w")
