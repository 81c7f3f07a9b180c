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
    start     seconds until the first epoch of the digits run, without and with compilation cache

Everything is timed in turn for several rounds; ratios are medians over rounds. --peer=torch times
the same steps in eager PyTorch. Tables are Markdown; --json=FILE saves the numbers.
"""

import json
import logging
from pathlib import Path

from absl import flags

from hatjax import cli
from hatjax.errors import InputError, unknown

NETWORK = flags.DEFINE_enum("network", "mlp", ["mlp", "alexnet"], "Kind of network.")
WIDTHS = flags.DEFINE_list("widths", [], "Units of the layers; default: those of the paper.")
BATCH = flags.DEFINE_integer("batch", 64, "Examples in a batch.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 200, "Steps in one timing, at most.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 7, "Rounds of timings.", lower_bound=1)
TASKS = flags.DEFINE_integer("tasks", 10, "Tasks that the network has rows for.", lower_bound=1)
REPLICAS = flags.DEFINE_integer("replicas", 1, "Replicas in one program.", lower_bound=1)
MEASURE = flags.DEFINE_list("measure", ["step", "parts", "limit"], "What to measure; see above.")
PEER = flags.DEFINE_enum("peer", None, ["torch"], "Also time the same steps in this library.")
JSON = flags.DEFINE_string("json", None, "Save the numbers to this file.")


def table(title: str, measured: dict) -> str:
    """The result of a measurement in Markdown."""
    rows = measured["rows"]
    columns = list(dict.fromkeys(k for row in rows.values() for k in row))
    lines = [[title, *columns], ["---"] * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append([name, *(f"{row[k]:,.4g}" if k in row else "" for k in columns)])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    for name, r in measured.get("ratios", {}).items():
        spread = f" ({r['least']:.3f} to {r['most']:.3f})" if "least" in r else ""
        text += f"\n{name}: {r['ratio']:.3f}{spread}"
    return text


def main(_: list[str]) -> None:
    """Take the measurements of the flags, print the tables, save the numbers."""
    import jax  # imported here to keep --help fast

    from hatjax.benchmark import measures, steps
    from hatjax.workdir import files

    logging.getLogger("jax").setLevel(logging.WARNING)  # it logs missing backends
    try:
        case = steps.Case(
            NETWORK.value,
            tuple(positive(w) for w in WIDTHS.value),
            BATCH.value,
            TASKS.value,
            REPLICAS.value,
        )
        case = case._replace(widths=steps.build(case, "hat").config.network.widths)
        how = measures.How(STEPS.value, ROUNDS.value, PEER.value)
        widths = ",".join(map(str, case.widths))
        device = jax.devices()[0].device_kind
        found = {"case": case._asdict(), "device": device, "jax": jax.__version__}
        print(f"{case.network} {widths}, batch {case.batch}, {device}, jax {jax.__version__}")
        for name in MEASURE.value:
            if name not in measures.MEASURES:
                raise unknown("measure", name, measures.MEASURES)
        for name in MEASURE.value:
            found[name] = measures.MEASURES[name](case, how)
            print(f"\n{table(name, found[name])}", flush=True)
            if JSON.value:
                files.write_text(Path(JSON.value), json.dumps(found, indent=2) + "\n")
            jax.clear_caches()
    except (InputError, OSError) as error:
        cli.fail(error)
    except KeyboardInterrupt:
        cli.fail("interrupted", 130)


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
