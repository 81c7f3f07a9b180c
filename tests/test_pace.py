"""The time that a run still takes, and how often a log says so."""

import numpy as np
import pytest

from hatjax.experiment import display, pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pass_over(p: pace.Pace, seconds: float) -> None:
    p.clock.now += seconds
    p.epoch()


def test_the_first_epoch_compiles_and_does_not_count():
    p = pace.Pace([8] * 3, 100, clock=Clock())
    pass_over(p, 30.0)
    assert p.left(0, 1) is None and p.words(0, 1) == ""
    pass_over(p, 2.0)
    assert p.left(0, 2) == pytest.approx(2 * (98 + 200)) and p.words(0, 2) == "up to 10 min left"


def test_later_tasks_are_expected_to_take_as_many_epochs_as_earlier_ones():
    p = pace.Pace([8] * 4, 100, clock=Clock())
    for _ in range(10):
        pass_over(p, 1.0)
    p.clock.now += 5  # compiles the evaluation: does not count
    p.task(10)
    for _ in range(20):
        pass_over(p, 1.0)
    assert p.left(1, 20) == pytest.approx(2 * 10)  # this task is longer than expected already
    p.clock.now += 3
    p.task(20)
    assert p.left(2, 5) == pytest.approx(10 + 15 + 2 * 3)
    assert p.words(2, 5) == "about 31 s left"
    # A run that goes on after a pause knows the tasks before it, and not the pause.
    again = pace.Pace([8] * 4, 100, [10, 20], clock=Clock())
    pass_over(again, 1000.0)
    pass_over(again, 1.0)
    assert again.left(2, 7) == pytest.approx(8 + 15)


def test_a_task_with_more_images_takes_longer():
    p = pace.Pace([10, 50, 30], 100, clock=Clock())
    for _ in range(11):
        pass_over(p, 1.0)  # 0.1 s a batch
    assert p.left(0, 11) == pytest.approx(0.1 * (89 * 10 + 100 * 80))
    p.task(11)
    for _ in range(4):
        pass_over(p, 5.0)
    assert p.left(1, 4) == pytest.approx(0.1 * (7 * 50 + 11 * 30))


def test_tasks_of_a_run_that_was_extended_have_no_known_length():
    p = pace.Pace([8] * 4, 100, [0, 0], clock=Clock())
    pass_over(p, 1.0)
    pass_over(p, 1.0)
    assert p.words(2, 2) == "up to 3 min left"  # 98 epochs and 100
    p.task(20)
    assert p.left(3, 5) == pytest.approx(15)


@pytest.mark.parametrize(
    "seconds, words",
    [(0, "0 s"), (59.6, "60 s"), (150, "2 min"), (6000, "1 h 40 min"), (1e6, "277 h 47 min")],
)
def test_durations(seconds, words):
    assert pace.duration(seconds) == words


def rows(task: int, epoch: int) -> list[dict]:
    return [{"task": task, "epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5,
             "valid_loss": 1.0, "valid_accuracy": 0.5, "lr": 0.05}]  # fmt: skip


@pytest.mark.parametrize("verbose, lines", [(False, [1, 2, 10, 20, 30, 40]), (True, range(1, 41))])
def test_a_log_has_a_few_lines_a_task(capsys, verbose, lines):
    with display.Reporter(["a", "b"], [8, 8], 40, verbose=verbose) as report:
        for t in range(2):
            for epoch in range(40):
                report.epoch(rows(t, epoch))
            report.task(t, 40, 1.0, np.full((1, t + 1), 0.5))
    out = capsys.readouterr().out.strip().splitlines()
    want = [f"epoch {i}/40" if i else "test accuracy" for _ in range(2) for i in (*lines, 0)]
    assert len(out) == len(want)
    assert all(text in line for text, line in zip(want, out, strict=True))
    assert "left" not in out[0] and "up to " in out[1] and "about 0 s left" in out[-2]


def test_a_long_epoch_is_shown(capsys):
    with display.Reporter(["a"], [8], 9) as report:
        for epoch in range(5):
            report.said -= pace.SILENCE * (epoch > 2)
            report.epoch(rows(0, epoch))
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[3] for line in lines] == ["1/9", "2/9", "4/9", "5/9"]
