"""Time a HAT step against an SGD step on the same network, both as they run in a compiled epoch.

    python -m hatjax.benchmark --network=mlp --widths=2000,2000 --peer=torch
    python -m hatjax.benchmark --network=alexnet --measure=step,parts,limit --json=alexnet.json

--measure takes any of
    step      milliseconds, examples a second, compile time and memory of HAT and SGD
    parts     time saved by leaving out gates, sparsity, mask, compensation or clamp
    limit     the step against a lower bound: its matrix products alone and its memory traffic
    tasks     time of a step with rows for 1, 10 and 100 tasks
    replicas  time of a step with 1, 2, 5 and 10 replicas in one program
    widths    time of a step with half, all and twice the units
    epoch     a whole epoch with its evaluations, and the peer's as in the published code
    end       EWC's Fisher information, relative to an epoch
    stream    an epoch on images that are streamed from the host and the disk, beside in memory
    start     seconds until the first epoch of the digits run, without and with compilation cache

Everything is timed in turn for several rounds; ratios are medians over rounds. --peer=torch,compile
times the same steps in eager PyTorch and by torch.compile, on the kind of device that JAX uses.
Tables are Markdown; --json=FILE saves the numbers.

    python -m hatjax.benchmark --suite=gpu --json=gpu.json

measures all networks in at most 20 minutes (--limit): --measure takes any of
    steps     HAT and SGD on every network, beside both peers
    conv      convolutions as products of patches and as XLA's own, for 1, 4 and 16 replicas
    replicas  1 to 64 replicas in one program
    limit     the step on every network against its lower bound
    runs      permuted MNIST and incremental CIFAR at the paper's size, ten seeds in one program,
              for --minutes each
What fails is told in its row, and the next is measured. --toy takes tiny networks, to try it.
"""

import ast
import itertools
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from hatjax import cli
from hatjax.errors import InputError, unknown

NETWORKS = ["mlp", "alexnet", "resnet18", "vit"]
NETWORK = flags.DEFINE_enum("network", "mlp", NETWORKS, "Kind of network.")
SET = flags.DEFINE_multi_string("set", [], "A field of the network: --set=depth=2.")
WIDTHS = flags.DEFINE_list("widths", [], "Units of the layers; default: those of the paper.")
BATCH = flags.DEFINE_integer("batch", 64, "Examples in a batch.", lower_bound=1)
STEPS = flags.DEFINE_integer(
    "steps", None, "Steps in one timing, at most; default 200, in a suite 500.", lower_bound=1
)
ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Rounds of timings; default 7, in a suite 5.", lower_bound=1
)
TASKS = flags.DEFINE_integer("tasks", 10, "Tasks that the network has rows for.", lower_bound=1)
REPLICAS = flags.DEFINE_integer("replicas", 1, "Replicas in one program.", lower_bound=1)
MEASURE = flags.DEFINE_list(
    "measure", None, "What to measure; see above. Default step,parts,limit; in a suite all."
)
PEER = flags.DEFINE_list(
    "peer", None, "Also time the same steps in these: torch, compile. Default in a suite: both."
)
JSON = flags.DEFINE_string("json", None, "Save the numbers to this file.")
SUITE = flags.DEFINE_enum("suite", None, ["gpu"], "Measure all networks; see above.")
TOY = flags.DEFINE_bool("toy", False, "With --suite: tiny networks.")
MINUTES = flags.DEFINE_float("minutes", 4, "With --suite: of each whole run.", lower_bound=0)
LIMIT = flags.DEFINE_float("limit", 20, "With --suite: minutes for all.", lower_bound=0)


def main(_: list[str]) -> None:
    """Take the measurements of the flags, print the tables, save the numbers."""
    logging.getLogger("jax").setLevel(logging.WARNING)  # it logs missing backends
    try:
        if SUITE.value:
            measure_suite()
        else:
            measure_case()
    except (InputError, OSError) as error:
        cli.fail(error)
    except KeyboardInterrupt:
        cli.fail("interrupted", 130)


def measure_case() -> None:
    """The measurements of one network."""
    import jax  # imported here to keep --help fast

    from hatjax.benchmark import machine, measures, steps, tables

    for flag in ("toy", "minutes", "limit"):
        if flags.FLAGS[flag].present:
            raise InputError(f"--{flag} needs --suite=gpu")
    case = steps.Case(
        NETWORK.value,
        tuple(positive(w) for w in WIDTHS.value),
        BATCH.value,
        TASKS.value,
        REPLICAS.value,
        tuple(map(field, SET.value)),
    )
    network = steps.build(case, "hat").config.network
    case = case._replace(widths=network.get("widths", ()))
    peers = tuple(PEER.value or ())
    measures.check_peers(peers)
    how = measures.How(STEPS.value or 200, ROUNDS.value or 7, peers)
    names = chosen(["step", "parts", "limit"], measures.MEASURES)
    found: dict[str, Any] = {"case": case._asdict() | {"fields": dict(case.fields)}}
    found |= {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    found["machine"] = machine.about()
    sizes = " ".join(f"{k}={v}" for k, v in network.items() if k != "name")
    print(f"{case.network} {sizes}, batch {case.batch}, {found['device']}, jax {jax.__version__}")
    for name in names:
        found[name] = measures.MEASURES[name](case, how)
        print(f"\n{tables.table(name, found[name])}", flush=True)
        save(found)
        measures.forget()


def measure_suite() -> None:
    """The measurements of all networks."""
    from hatjax.benchmark import machine, measures, suite, tables

    for flag in ("network", "widths", "set", "tasks", "replicas", "batch"):
        if flags.FLAGS[flag].present:
            raise InputError(f"--{flag} does not go with --suite, which measures all networks")
    peers = tuple(measures.PEERS if PEER.value is None else PEER.value)
    for name in peers:
        if name not in measures.PEERS:
            raise unknown("peer", name, measures.PEERS)
    names = chosen(suite.PARTS, suite.PARTS)
    how = measures.How(STEPS.value or 500, ROUNDS.value or 5, peers)
    found: dict[str, Any] = {"machine": machine.about()}
    print("\n".join(f"- {k}: {v}" for k, v in found["machine"].items()), flush=True)
    sizes = suite.toy() if TOY.value else suite.real()
    rows = suite.measure(sizes, how, names, MINUTES.value, LIMIT.value)
    for name, group in itertools.groupby(rows, key=lambda row: row[0]):
        found[name] = {"rows": {}}
        for _, row, numbers in group:
            found[name]["rows"][row] = numbers
            save(found)
        print(f"\n{tables.table(name, found[name])}", flush=True)


def chosen(default: Sequence[str], known: Collection[str]) -> list[str]:
    """The names of --measure; InputError for one that is not known."""
    names = list(default) if MEASURE.value is None else MEASURE.value
    for name in names:
        if name not in known:
            raise unknown("measure", name, known)
    return names


def save(found: dict) -> None:
    """Write what is measured so far to the file of --json."""
    from hatjax.workdir import files

    if JSON.value:
        files.write_text(Path(JSON.value), json.dumps(found, indent=2) + "\n")


def field(text: str) -> tuple[str, Any]:
    """A field of the network from "NAME=VALUE"; InputError for anything else."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise InputError(f"--set={text}: expected FIELD=VALUE, as in --set=depth=2")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def positive(word: str) -> int:
    """A number of units; InputError for anything else."""
    if not word.strip().isdigit() or int(word) == 0:
        raise InputError(f"--widths: expected whole numbers of at least 1, got {word!r}")
    return int(word)


def parse(argv: list[str]) -> list[str]:
    """Parse the flags with absl; every error is one line."""
    rest = cli.parse_flags(argv)
    if len(rest) > 1:
        cli.fail(f"unknown argument {rest[1]!r}: flags are given as --name=value; see --help")
    return rest


if __name__ == "__main__":
    cli.start(main, parse)
