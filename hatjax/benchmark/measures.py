"""The measurements of the benchmark: each function returns rows of numbers, and ratios."""

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import numpy as np

from hatjax.benchmark import limit, steps, streamed
from hatjax.benchmark.steps import Case
from hatjax.benchmark.timing import interleave, once, ratio
from hatjax.errors import InputError, oneline, unknown
from hatjax.training.flops import multiply_adds, products

PEERS = ("torch", "compile")  # eager PyTorch, and torch.compile


class How(NamedTuple):
    """How to time."""

    max_steps: int  # at most, in a timing; the steps of an epoch
    rounds: int
    peers: tuple[str, ...] = ()  # of PEERS: also time these


def check_peers(names: Iterable[str]) -> None:
    """InputError for a peer that is unknown or not installed."""
    for name in names:
        if name not in PEERS:
            raise unknown("peer", name, PEERS)
    if names and find_spec("torch") is None:
        raise InputError(
            "--peer: PyTorch is not installed: python -m pip install torch, or do without the flag"
        )


def peers(case: Case, how: How, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The peers' functions for `names`, "hat" or "sgd": {"torch hat": peer.Peer}.

    Each has run a step. The second dict has those that failed, with the reason: torch.compile needs
    a compiler, and a device memory enough.
    """
    made: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for library in how.peers:
        for name in names:
            label = f"{library} {name}"
            try:
                check_peers([library])
                from hatjax.benchmark import peer  # which imports torch

                made[label] = peer.prepare(case, name == "hat", how.max_steps, library != "torch")
                made[label].steps(1)
            except Exception as error:  # whatever PyTorch raises
                made.pop(label, None)
                failed[label] = oneline(error)
    return made, failed


def forget() -> None:
    """Free what a measurement left: compiled programs, and PyTorch's memory on the device."""
    gc.collect()
    jax.clear_caches()
    if "torch" in sys.modules:
        from hatjax.benchmark import peer

        peer.forget()


def step(case: Case, how: How) -> dict:
    """A step of HAT and of SGD, and the peers'."""
    ours = {name: steps.prepare(case, name, how.max_steps) for name in ("hat", "sgd")}
    theirs, failed = peers(case, how, ours)
    runs = {name: training.steps for name, training in (ours | theirs).items()}
    times = interleave(runs, how.max_steps, how.rounds)
    rows: dict[str, dict] = {}
    for name, t in times.items():
        ms, count = 1e3 * float(np.median(t)), case.batch * case.replicas
        rows[name] = {"ms a step": ms, "steps/s": 1e3 / ms, "examples/s": 1e3 / ms * count}
        if name in ours:
            rows[name] |= {
                "compile s": ours[name].compile_seconds, "memory MB": ours[name].bytes / 1e6
            }  # fmt: skip
    rows |= {name: {"failed": reason} for name, reason in failed.items()}
    pairs = {"hat / sgd": ("hat", "sgd")}
    pairs |= {f"{name} / {name.split()[1]}": (name, name.split()[1]) for name in theirs}
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


def against_limit(case: Case, how: How) -> dict[str, float]:
    """A step of HAT against the lower bound of this machine: milliseconds, GFLOP/s, GB/s."""
    built = steps.build(case, "hat")
    function, args = limit.one_step(case, built)
    eqns = products(function, *args)
    size = limit.parameters(built)
    training = steps.prepare(case._replace(replicas=1), "hat", how.max_steps)
    times = interleave({"hat": training.steps}, how.max_steps, how.rounds)
    seconds = float(np.median(times["hat"]))
    alone, update = limit.time_products(eqns), limit.time_update(size)
    bandwidth = limit.UPDATE_BYTES * size / update
    moved = 4 * size * limit.PASSES / bandwidth
    flops = 2 * sum(map(multiply_adds, eqns))
    return {
        "step ms": 1e3 * seconds,
        "products ms": 1e3 * alone,
        "update ms": 1e3 * moved,
        "limit ms": 1e3 * (alone + moved),
        "step / limit": seconds / (alone + moved),
        "step GFLOP/s": flops / seconds / 1e9,
        "products GFLOP/s": flops / alone / 1e9,
        "update GB/s": bandwidth / 1e9,
    }


def bound(case: Case, how: How) -> dict:
    """A step of HAT against the lower bound, and HAT's and SGD's work as the compiler counts it."""
    found = against_limit(case, how)
    hat, sgd = (limit.cost(case, steps.build(case, name)) for name in ("hat", "sgd"))
    return {
        "rows": {
            "step": {"ms": found["step ms"], "GFLOP/s": found["step GFLOP/s"]},
            "its products alone": {
                "ms": found["products ms"], "GFLOP/s": found["products GFLOP/s"]
            },
            "its update's bytes": {"ms": found["update ms"], "GB/s": found["update GB/s"]},
            "limit": {"ms": found["limit ms"]},
        },
        "ratios": {"step / limit": {"ratio": found["step / limit"]}}
        | {f"{k} counted, hat / sgd": {"ratio": hat[k] / sgd[k]} for k in hat},
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
    return growth({f"widths x {k:g}": scaled(case, k) for k in (0.5, 1, 2)}, how)


def scaled(case: Case, k: float) -> Case:
    """The case with k times the units of every layer; of a ViT, of every head."""
    network = steps.build(case, "hat").config.network
    if "widths" in network:
        return case._replace(widths=tuple(max(1, int(k * w)) for w in network.widths))
    width = network.heads * max(1, int(k * network.width / network.heads))
    return case._replace(fields=(*case.fields, ("width", width)))


def epoch(case: Case, how: How) -> dict:
    """A whole epoch of HAT: train, evaluate, schedule; and the peers'."""
    theirs, failed = peers(case, how, ["hat"])
    runs = {"hat": steps.prepare(case, "hat", how.max_steps).epoch}
    runs |= {name: functions.epoch for name, functions in theirs.items()}
    times = interleave({name: once(run) for name, run in runs.items()}, 1, how.rounds)
    rows: dict[str, dict] = {name: {"s an epoch": float(np.median(t))} for name, t in times.items()}
    rows |= {name: {"failed": reason} for name, reason in failed.items()}
    ratios = {f"{name.split()[0]} / ours": ratio(times[name], times["hat"]) for name in theirs}
    return {"rows": rows, "ratios": ratios}


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


def stream(case: Case, how: How) -> dict:
    """An epoch of HAT on images that stay on the host or the disk, beside that in memory."""
    times, images = streamed.times(case, how.max_steps, how.rounds)
    rows = {
        name: {"s an epoch": float(np.median(t)), "images/s": images / float(np.median(t))}
        for name, t in times.items()
    }
    there = times.pop(streamed.MEMORY)
    return {
        "rows": rows,
        "ratios": {f"{name} / {streamed.MEMORY}": ratio(t, there) for name, t in times.items()},
    }


def start(case: Case, how: How) -> dict:
    """Seconds until the digits run has finished its first epoch, without and with a cache."""

    def first_epoch(folder: str) -> float:
        command = [sys.executable, "-u", "-m", "hatjax.main", "--overwrite"]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--workdir={folder}/run"],
            # The first of the two finds no compiled program, whatever the user's settings.
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/xla"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # that it was stopped
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
    "stream": stream,
    "start": start,
}
