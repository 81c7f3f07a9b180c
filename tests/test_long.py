"""Two hundred tasks: neither the host's memory nor the time of an epoch grows."""

import os
import time

import numpy as np
import pytest

from hatjax import config
from hatjax.experiment import loop, run


def resident() -> float:
    """MiB that this process has in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.parametrize("approach", ["hat", "ewc"])
def test_two_hundred_tasks(tmp_path, monkeypatch, approach):
    c = config.make("digits", approach)
    c.network.widths, c.tasks.count, c.data.examples, c.epochs = (30, 30), 200, 200, 4
    train, evaluate, memory, seconds, tests = loop.train_task, loop.evaluate, [], [], []

    def timed(function, times):
        def call(*args):
            began = time.perf_counter()
            result = function(*args)
            times.append(time.perf_counter() - began)
            return result

        return call

    def watched(*args):
        evaluate(*args)
        memory.append(resident())

    monkeypatch.setattr(loop, "train_task", timed(train, seconds))
    monkeypatch.setattr(loop, "evaluate", timed(watched, tests))
    run.run_sweep(tmp_path / "w", {"": c}, quiet=True)
    each = np.median(np.reshape(seconds, (10, 20)), axis=1) * 1000
    print("\nMiB", np.round(memory[19::20]), "\nms to learn a task", np.round(each, 1))
    print("ms to evaluate all tasks so far", np.round(np.array(tests[19::20]) * 1000))
    assert len(memory) == 200 and (tmp_path / "w" / "done").exists()
    assert memory[-1] - memory[49] < 40, "the host's memory grows"
    assert each[-1] < 1.5 * each[1], "tasks take longer and longer"
