"""The measurements of the benchmark: each function returns rows of numbers, and ratios.

All candidates run in turn, round after round, and ratios are medians over rounds: on a noisy
machine only the ratio within a round is reliable.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hatjax.benchmark import limit, steps
from hatjax.benchmark.steps import Case
from hatjax.errors import InputError
from hatjax.training.flops import multiply_adds, products

Runs = dict[str, Callable[[int], None]]  # name -> function that runs a number of steps
Times = dict[str, np.ndarray]  # name -> seconds a step, "rounds"
SECONDS = 0.25  # that a timing should take


class How(NamedTuple):
    """How to time."""

    max_steps: int  # at most, in a timing; the steps of an epoch
    rounds: int
    peer: str | None  # "torch": also time PyTorch


def interleave(runs: Runs, max_steps: int, rounds: int) -> Times:
    """Time all `runs` in turn, for `rounds` rounds.

    A timing has as many steps as take SECONDS, but at most `max_steps`. An untimed call comes
    before each, since the threads of PyTorch keep spinning for a while and disturb the next run.
    """
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        run(1)  # compiles and allocates
        began = time.perf_counter()
        run(1)
        counts[name] = int(np.clip(SECONDS / (time.perf_counter() - began), 1, max_steps))
    for _ in range(rounds):
        for name, run in runs.items():
            run(counts[name])
            began = time.perf_counter()
            run(counts[name])
            times[name].append((time.perf_counter() - began) / counts[name])
    return {name: np.array(t) for name, t in times.items()}


def once(run: Callable[[], None]) -> Callable[[int], None]:
    """`run` as a function of a number of steps, which it ignores, for `interleave`."""
    return lambda _: run()


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """a / b within each round: its median and range over the rounds."""
    r = a / b
    return {"ratio": float(np.median(r)), "least": float(r.min()), "most": float(r.max())}


def step(case: Case, how: How) -> dict:
    """A step of HAT and of SGD, and the peer's."""
    ours = {name: steps.prepare(case, name, how.max_steps) for name in ("hat", "sgd")}
    runs = {name: training.steps for name, training in ours.items()}
    if how.peer:
        from hatjax.benchmark import peer  # which imports torch

        runs |= {
            f"torch {name}": peer.prepare(case, name == "hat", how.max_steps).steps for name in ours
        }
    times = interleave(runs, how.max_steps, how.rounds)
    rows = {}
    for name, t in times.items():
        ms, count = 1e3 * float(np.median(t)), case.batch * case.replicas
        rows[name] = {"ms a step": ms, "steps/s": 1e3 / ms, "examples/s": 1e3 / ms * count}
        if name in ours:
            rows[name] |= {
                "compile s": ours[name].compile_seconds, "memory MB": ours[name].bytes / 1e6
            }  # fmt: skip
    pairs = {"hat / sgd": ("hat", "sgd")}
    if how.peer:
        pairs |= {f"torch {name} / {name}": (f"torch {name}", name) for name in ours}
    return {"rows": rows, "ratios": {k: ratio(times[a], times[b]) for k, (a, b) in pairs.items()}}


def parts(case: Case, how: How) -> dict:
    """The time saved by leaving out each part of HAT, in percent of a step of SGD."""
    names = ["hat", "sgd", *(steps.LEFT_OUT + part for part in steps.PARTS)]
    times = interleave(
        {name: steps.prepare(case, name, how.max_steps).steps for name in names},
        how.max_steps,
        how.rounds,
    )
    saved = {
        part: (times["hat"] - times[steps.LEFT_OUT + part]) / times["sgd"] for part in steps.PARTS
    }
    whole = {"all of HAT": (times["hat"] - times["sgd"]) / times["sgd"]}
    return {
        "rows": {
            name: {"of a step of SGD, %": 100 * float(np.median(v))}
            for name, v in (whole | saved).items()
        }
    }


def bound(case: Case, how: How) -> dict:
    """A step of HAT against the lower bound of this machine."""
    built = {name: steps.build(case, name) for name in ("hat", "sgd")}
    function, args = limit.one_step(case, built["hat"])
    eqns = products(function, *args)
    size = limit.parameters(built["hat"])
    training = steps.prepare(case._replace(replicas=1), "hat", how.max_steps)
    times = interleave({"hat": training.steps}, how.max_steps, how.rounds)
    seconds = float(np.median(times["hat"]))
    alone, update = limit.time_products(eqns), limit.time_update(size)
    moved = 4 * size * limit.PASSES
    least = alone + moved / (limit.UPDATE_BYTES * size / update)
    flops = 2 * sum(map(multiply_adds, eqns))
    counted = {name: limit.cost(case, b) for name, b in built.items()}
    return {
        "rows": {
            "step": {"ms": 1e3 * seconds, "GFLOP/s": flops / seconds / 1e9},
            "its products alone": {"ms": 1e3 * alone, "GFLOP/s": flops / alone / 1e9},
            "its update's bytes": {
                "ms": 1e3 * (least - alone), "GB/s": limit.UPDATE_BYTES * size / update / 1e9
            },
            "limit": {"ms": 1e3 * least},
        },
        "ratios": {"step / limit": {"ratio": seconds / least}}
        | {
            f"{k} counted, hat / sgd": {"ratio": counted["hat"][k] / counted["sgd"][k]}
            for k in counted["hat"]
        },
    }  # fmt: skip


def growth(cases: dict[str, Case], how: How) -> dict:
    """A step of HAT in several cases, relative to the first."""
    times = interleave(
        {name: steps.prepare(case, "hat", how.max_steps).steps for name, case in cases.items()},
        how.max_steps,
        how.rounds,
    )
    first = next(iter(times.values()))
    return {
        "rows": {
            name: {"ms a step": 1e3 * float(np.median(t)), "of the first": ratio(t, first)["ratio"]}
            for name, t in times.items()
        }
    }


def over_tasks(case: Case, how: How) -> dict:
    """HAT's step with rows for 1, 10 and 100 tasks."""
    return growth({f"{n} tasks": case._replace(tasks=n) for n in (1, 10, 100)}, how)


def over_replicas(case: Case, how: How) -> dict:
    """HAT's step with 1, 2, 5 and 10 replicas in one program."""
    return growth({f"{n} replicas": case._replace(replicas=n) for n in (1, 2, 5, 10)}, how)


def over_widths(case: Case, how: How) -> dict:
    """HAT's step with half, all and twice the units of every layer."""
    widths = steps.build(case, "hat").config.network.widths
    scaled = {f"widths x {k:g}": tuple(max(1, int(k * w)) for w in widths) for k in (0.5, 1, 2)}
    return growth({name: case._replace(widths=w) for name, w in scaled.items()}, how)


def epoch(case: Case, how: How) -> dict:
    """A whole epoch of HAT: train, evaluate, schedule."""
    runs = {"hat": steps.prepare(case, "hat", how.max_steps).epoch}
    if how.peer:
        from hatjax.benchmark import peer  # which imports torch

        runs["torch hat"] = peer.prepare(case, True, how.max_steps).epoch
    times = interleave(
        {name: once(run) for name, run in runs.items()}, 1, how.rounds
    )
    rows = {name: {"s an epoch": float(np.median(t))} for name, t in times.items()}
    if not how.peer:
        return {"rows": rows}
    return {"rows": rows, "ratios": {"torch / ours": ratio(times["torch hat"], times["hat"])}}


def end(case: Case, how: How) -> dict:
    """The end of a task in EWC: the Fisher information of single examples."""
    training = steps.prepare(case, "ewc", how.max_steps)
    runs = {"EWC's end of task": training.end, "an epoch": training.epoch}
    times = interleave(
        {name: once(run) for name, run in runs.items()}, 1, how.rounds
    )
    return {
        "rows": {name: {"s": float(np.median(t))} for name, t in times.items()},
        "ratios": {"end of task / epoch": ratio(*times.values())},
    }


def start(case: Case, how: How) -> dict:
    """Seconds until the digits run has finished its first epoch, without and with a cache."""

    def first_epoch(folder: str) -> float:
        command = [sys.executable, "-u", "-m", "hatjax.main", "--overwrite"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--workdir={folder}/run"],
            env=os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"},
            stdout=subprocess.PIPE,
            text=True,
        )
        seen = any("epoch 1/" in line for line in process.stdout or ())
        seconds = time.perf_counter() - began
        process.terminate()
        process.communicate()
        if not seen:
            raise InputError("the digits run did not start: try python -m hatjax.main")
        return seconds

    times: dict[str, list[float]] = {"nothing compiled": [], "once more": []}
    for _ in range(min(3, how.rounds)):
        with tempfile.TemporaryDirectory() as folder:
            for name in times:
                times[name].append(first_epoch(folder))
    return {"rows": {name: {"s": float(np.median(t))} for name, t in times.items()}}


MEASURES: dict[str, Callable[[Case, How], dict]] = {
    "step": step,
    "parts": parts,
    "limit": bound,
    "tasks": over_tasks,
    "replicas": over_replicas,
    "widths": over_widths,
    "epoch": epoch,
    "end": end,
    "start": start,
}
