"""Timing of several candidates against each other.

All run in turn, round after round, and ratios are medians over rounds: on a noisy machine only the
ratio within a round is reliable.
"""

import time
from collections.abc import Callable

import numpy as np

Runs = dict[str, Callable[[int], None]]  # name -> function that runs a number of steps
Times = dict[str, np.ndarray]  # name -> seconds a step, "rounds"
SECONDS = 1.0  # that a timing should take: what a call costs beside its steps must not show


def interleave(runs: Runs, max_steps: int, rounds: int) -> Times:
    """Time all `runs` in turn, for `rounds` rounds.

    A timing has as many steps as take SECONDS, but at most `max_steps`. An untimed call comes
    before each, since the threads of PyTorch keep spinning for a while and disturb the next run.
    """
    counts = {name: steps_within(run, max_steps) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run(counts[name])
            began = time.perf_counter()
            run(counts[name])
            times[name].append((time.perf_counter() - began) / counts[name])
    return {name: np.array(t) for name, t in times.items()}


def steps_within(run: Callable[[int], None], max_steps: int) -> int:
    """How many steps take SECONDS, 1 to `max_steps`: tried with 1, 4, 16, ... steps.

    A single step would not tell on a GPU, where starting it takes longer than the step itself.
    """
    run(1)  # compiles and allocates
    k = 1
    while True:
        began = time.perf_counter()
        run(k)
        spent = time.perf_counter() - began
        if 4 * spent >= SECONDS or k == max_steps:
            return int(np.clip(k * SECONDS / spent, 1, max_steps))
        k = min(4 * k, max_steps)


def once(run: Callable[[], None]) -> Callable[[int], None]:
    """`run` as a function of a number of steps, which it ignores, for `interleave`."""
    return lambda _: run()


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """a / b within each round: its median and range over the rounds."""
    r = a / b
    return {"ratio": float(np.median(r)), "least": float(r.min()), "most": float(r.max())}
