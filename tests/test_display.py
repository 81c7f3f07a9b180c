"""What a sweep's log says of an epoch."""

import pytest

from hatjax.experiment import display

ROW = {
    "task": 1, "epoch": 0, "train_loss": 0.5, "train_accuracy": 0.8, "valid_loss": 0.4,
    "valid_accuracy": 0.9, "lr": 0.05,
}  # fmt: skip


def said(capsys, *more: dict) -> str:
    with display.Reporter(["a", "b"], [8, 8], 10, len(more)) as reporter:
        reporter.epoch([ROW | own for own in more])
    (line,) = filter(None, capsys.readouterr().out.splitlines())
    return line


def steep(s_max: float) -> dict:
    return {"s_first": 1 / s_max, "s_last": s_max}


def test_runs_of_one_steepness(capsys):
    line = said(capsys, steep(400.0), steep(400.0) | {"train_loss": 1.5})
    assert "task 2/2  epoch 1/10  s 0.0025..400  loss 1.000" in line and "lr 0.05  mean" in line


@pytest.mark.parametrize("others", [(25.0,), (25.0, 800.0, 800.0)])
def test_different_settings_are_not_averaged(capsys, others):
    line = said(capsys, steep(400.0), *(steep(s) | {"lr": 0.05 / 3} for s in others))
    assert "epoch 1/10  loss 0.500" in line and "lr 0.017..0.05" in line
    assert "train 80.0%  valid 90.0% (0.400)" in line


def test_runs_without_steepness(capsys):
    assert "epoch 1/10  loss 0.500" in said(capsys, {}, {})
