"""What the benchmark measures: each a function that gives rows of numbers, and ratios.

What is compared runs in turn, round after round, and ratios are medians over the rounds: on a noisy
machine the ratio within a round is what can be trusted.
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
from hatjax.training import products

Runs = dict[str, Callable[[int], None]]  # what is timed, given how many steps
Times = dict[str, np.ndarray]  # seconds a step, "rounds"
SECONDS = 0.25  # that a timing should take


class How(NamedTuple):
    """How things are timed."""

    most: int  # steps at once, at most; those of an epoch
    rounds: int
    peer: str | None  # "torch", to be timed as well


def interleave(runs: Runs, most: int, rounds: int) -> Times:
    """Times all in turn, with as many steps at once as take a while, `most` at most.

    Each runs untimed before it is timed: PyTorch leaves threads behind that spin for a while.
    """
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in runs.items():
        run(1)  # what is compiled or allocated at the first call
        began = time.perf_counter()
        run(1)
        counts[name] = int(np.clip(SECONDS / (time.perf_counter() - began), 1, most))
    for _ in range(rounds):
        for name, run in runs.items():
            run(counts[name])
            began = time.perf_counter()
            run(counts[name])
            times[name].append((time.perf_counter() - began) / counts[name])
    return {name: np.array(t) for name, t in times.items()}


def once(run: Callable[[], None]) -> Callable[[int], None]:
    """A run that is no number of steps, as `interleave` takes it."""
    return lambda _: run()


def ratio(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """a over b within a round: the median over the rounds, and the range."""
    r = a / b
    return {"ratio": float(np.median(r)), "least": float(r.min()), "most": float(r.max())}


def step(case: Case, how: How) -> dict:
    """HAT and SGD, and the peer's."""
    ours = {name: steps.prepare(case, name, how.most) for name in ("hat", "sgd")}
    runs = {name: training.steps for name, training in ours.items()}
    if how.peer:
        from hatjax.benchmark import peer  # which imports torch

        runs |= {
            f"torch {name}": peer.prepare(case, name == "hat", how.most).steps for name in ours
        }
    times = interleave(runs, how.most, how.rounds)
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
    """What leaving a part of HAT out saves, in SGD's steps."""
    names = ["hat", "sgd", *(steps.LEFT_OUT + part for part in steps.PARTS)]
    times = interleave(
        {name: steps.prepare(case, name, how.most).steps for name in names},
        how.most,
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
    """The step of HAT against what this machine can do."""
    built = {name: steps.build(case, name) for name in ("hat", "sgd")}
    function, args = limit.one_step(case, built["hat"])
    eqns = products.products(function, *args)
    size = limit.parameters(built["hat"])
    training = steps.prepare(case._replace(replicas=1), "hat", how.most)
    seconds = float(np.median(interleave({"hat": training.steps}, how.most, how.rounds)["hat"]))
    alone, update = limit.time_products(eqns), limit.time_update(size)
    moved = 4 * size * limit.PASSES
    least = alone + moved / (limit.UPDATE_BYTES * size / update)
    flops = 2 * sum(map(products.multiply_adds, eqns))
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
    """HAT's step in several cases, beside the first."""
    times = interleave(
        {name: steps.prepare(case, "hat", how.most).steps for name, case in cases.items()},
        how.most,
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
    runs = {"hat": steps.prepare(case, "hat", how.most).epoch}
    if how.peer:
        from hatjax.benchmark import peer  # which imports torch

        runs["torch hat"] = peer.prepare(case, True, how.most).epoch
    times = interleave(
        {name: once(run) for name, run in runs.items()}, 1, how.rounds
    )
    rows = {name: {"s an epoch": float(np.median(t))} for name, t in times.items()}
    if not how.peer:
        return {"rows": rows}
    return {"rows": rows, "ratios": {"torch / ours": ratio(times["torch hat"], times["hat"])}}


def end(case: Case, how: How) -> dict:
    """What EWC does at the end of a task: Fisher information of single examples."""
    training = steps.prepare(case, "ewc", how.most)
    runs = {"EWC's end of task": training.end, "an epoch": training.epoch}
    times = interleave(
        {name: once(run) for name, run in runs.items()}, 1, how.rounds
    )
    return {
        "rows": {name: {"s": float(np.median(t))} for name, t in times.items()},
        "ratios": {"end of task / epoch": ratio(*times.values())},
    }


def start(case: Case, how: How) -> dict:
    """Seconds until the digits run has finished its first epoch."""

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
