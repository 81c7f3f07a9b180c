"""The suite: what the documents say of speed, measured on one machine by one command.

A row that fails says why, and the next is measured; rows for which no time is left say so.
"""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from hatjax import config
from hatjax.benchmark import measures, steps, whole_runs
from hatjax.benchmark.measures import How
from hatjax.benchmark.steps import Case
from hatjax.benchmark.timing import interleave, ratio
from hatjax.errors import InputError, oneline

Row = dict[str, Any]  # column -> a number, a ratio with its range, or a text
Rows = dict[str, Callable[[], Row]]  # name -> what measures it


class Sizes(NamedTuple):
    """What the suite measures."""

    steps: dict[str, Case]
    conv: dict[str, Case]  # networks with convolutions
    conv_replicas: tuple[int, ...]
    replicas: dict[str, Case]
    counts: tuple[int, ...]  # of replicas in one program
    limit: dict[str, Case]
    runs: dict[str, ConfigDict]


def real() -> Sizes:
    """The paper's networks, ResNet-18 and ViT-Ti; the paper's experiments with ten seeds each."""
    cases = {
        "MLP 2 x 100": Case("mlp", (100, 100)),
        "MLP 2 x 2000": Case("mlp"),
        "AlexNet": Case("alexnet"),
        "ResNet-18": Case("resnet18"),
        "ViT-Ti": Case("vit"),
    }
    return Sizes(
        steps=cases,
        conv={k: cases[k] for k in ("AlexNet", "ResNet-18")},
        conv_replicas=(1, 4, 16),
        replicas={k: cases[k] for k in ("MLP 2 x 100", "MLP 2 x 2000", "AlexNet")},
        counts=(1, 4, 16, 64),
        limit=cases,
        runs={name: seeds(config.make(name, "hat"), 10) for name in ("pmnist", "cifar")},
    )


def toy() -> Sizes:
    """A few of these rows with tiny networks, to see that they work."""
    mlp, alexnet = {"mlp": TINY["mlp"]}, {"alexnet": TINY["alexnet"]}
    runs = {name: seeds(config.make(name, "hat"), 2) for name in ("digits", "cifar")}
    runs["digits"].tasks.count = 2
    for c in runs.values():
        c.epochs, c.data.examples = 2, 400
        c.network.widths = tuple(4 for _ in c.network.widths)
    return Sizes(mlp, alexnet, (1,), mlp, (1, 2), mlp, runs)


TINY = {
    "mlp": Case("mlp", (8, 8), batch=4, tasks=2),
    "alexnet": Case("alexnet", (4, 4, 4, 8, 8), batch=4, tasks=2),
    "resnet18": Case("resnet18", (2, 2, 2, 2), batch=4, tasks=2),
    "vit": Case("vit", batch=4, tasks=2, fields=(("width", 12), ("depth", 1))),
}


def seeds(c: ConfigDict, count: int) -> ConfigDict:
    """The configuration for so many seeds in one program."""
    c.seeds = c.at_once = count
    return c


def step_rows(sizes: Sizes, how: How) -> Rows:
    """A step of HAT and SGD on every network, and the peers'."""

    def row(case: Case) -> Row:
        found = measures.step(case, how)
        rows, ratios = found["rows"], found["ratios"]
        failed = {name: r["failed"] for name, r in rows.items() if "failed" in r}
        return (
            {f"{name} ms": r["ms a step"] for name, r in rows.items() if name not in failed}
            | ratios
            | {"compile s": rows["hat"]["compile s"]}
            | {f"{name} failed": reason for name, reason in failed.items()}
        )

    return {name: functools.partial(row, case) for name, case in sizes.steps.items()}


def conv_rows(sizes: Sizes, how: How) -> Rows:
    """HAT's step with the convolution as a product of patches, and as XLA's own."""

    def row(case: Case) -> Row:
        if "conv" not in steps.build(case, "hat").config.network:
            return {"not measured": "the network has no field conv"}
        runs = {}
        for kind in ("patches", "native"):
            own = case._replace(fields=(*case.fields, ("conv", kind)))
            runs[kind] = steps.prepare(own, "hat", how.max_steps).steps
        times = interleave(runs, how.max_steps, how.rounds)
        return {f"{k} ms": 1e3 * float(np.median(t)) for k, t in times.items()} | {
            "patches / native": ratio(times["patches"], times["native"])
        }

    return {
        f"{name}, {n} replicas": functools.partial(row, case._replace(replicas=n))
        for name, case in sizes.conv.items()
        for n in sizes.conv_replicas
    }


def replica_rows(sizes: Sizes, how: How) -> Rows:
    """HAT's step with several replicas in one program, beside that of one."""

    @functools.lru_cache(maxsize=1)  # of the network that is measured
    def one(case: Case) -> Callable[[int], None]:
        return steps.prepare(case, "hat", how.max_steps).steps

    def row(case: Case, n: int) -> Row:
        runs = {"one": one(case)}
        if n > 1:
            runs["all"] = steps.prepare(case._replace(replicas=n), "hat", how.max_steps).steps
        times = interleave(runs, how.max_steps, how.rounds)
        several = times.get("all", times["one"])
        ms = 1e3 * float(np.median(several))
        return {
            "ms a step": ms,
            "of one": ratio(several, times["one"]),
            "examples/s": 1e3 / ms * n * case.batch,
        }

    return {
        f"{name}, {n} replicas": functools.partial(row, case, n)
        for name, case in sizes.replicas.items()
        for n in sizes.counts
    }


def limit_rows(sizes: Sizes, how: How) -> Rows:
    """HAT's step on every network against its lower bound."""
    return {
        name: functools.partial(measures.against_limit, case, how)
        for name, case in sizes.limit.items()
    }


def run_rows(sizes: Sizes, minutes: float) -> Rows:
    """Whole runs of several seeds in one program, for at most so many minutes each."""
    return {
        name: functools.partial(whole_runs.reached, c, minutes) for name, c in sizes.runs.items()
    }


PARTS = ("steps", "conv", "replicas", "limit", "runs")


def measure(
    sizes: Sizes, how: How, names: list[str], minutes: float, limit: float
) -> Iterator[tuple[str, str, Row]]:
    """Measure the PARTS `names`: yields part, row and its numbers, one after the other.

    After `limit` minutes no other row begins, and the runs of `minutes` each keep their share.
    """
    parts: dict[str, Callable[[], Rows]] = {
        "steps": lambda: step_rows(sizes, how),
        "conv": lambda: conv_rows(sizes, how),
        "replicas": lambda: replica_rows(sizes, how),
        "limit": lambda: limit_rows(sizes, how),
        "runs": lambda: run_rows(sizes, minutes),
    }
    end = time.monotonic() + 60 * limit
    kept = 60 * minutes * len(sizes.runs) if "runs" in names else 0.0
    for name in names:
        for row, numbers in parts[name]().items():
            began = time.monotonic()
            late = began > end - (0 if name == "runs" else kept)
            found: Row = {"not measured": "no time is left (--limit)"} if late else attempt(numbers)
            print(f"{name}: {row}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            yield name, row, found


def attempt(numbers: Callable[[], Row]) -> Row:
    """The row, or why it failed; then what it left on the device goes."""
    try:
        return numbers()
    except InputError as error:
        return {"failed": oneline(error)}
    except Exception as error:  # of any library: out of memory, a missing compiler
        return {"failed": f"{type(error).__name__}: {oneline(error)}"}
    finally:
        measures.forget()
