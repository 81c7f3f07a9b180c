"""The tables of all methods in docs/methods.md: what each promises, remembers, costs and reaches.

    python -m hatjax.benchmark.methods                  the tables, with the costs measured here
    python -m hatjax.benchmark.methods --rounds=0       without them, in seconds

Bytes are computed from the shapes of the memory, for the MLP of permuted MNIST (2 x 2000 units) and
ten tasks. Costs are steps of a second task on the MLP with 2 x 400 units, batch 64, over those of
SGD: their matrix products, counted, and their time, medians over interleaved rounds. Accuracies are
those of the runs in docs/results of the repository, dashes without it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from hatjax import approaches, cli, networks
from hatjax import config as configs
from hatjax.analysis import metrics, remembered
from hatjax.benchmark import steps
from hatjax.benchmark.timing import interleave, ratio
from hatjax.training import train
from hatjax.training.flops import multiply_adds, products
from hatjax.types import Approach, Array, Batch, Step, Tree
from hatjax.workdir import results

ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of timings; 0: no costs.", lower_bound=0)

RESULTS = Path(__file__).parents[2] / "docs" / "results"  # RUNS/APPROACH/, RUNS/APPROACH/seedN/

EXPERIMENT, TASKS = "pmnist", 10  # of the bytes
CASE = steps.Case("mlp", (400, 400))  # of the costs
STEPS = 100  # at most in a timing

EXACT = "bit-identical"
SOFT = "held softly"
NOTHING = "nothing"


class Facts(NamedTuple):
    """What cannot be computed from the code of a method."""

    past: str  # what it promises of earlier tasks' outputs
    old_data: str  # which data of earlier tasks it needs
    told: str  # whether the task must be told at test time
    paper: str
    number: str = "-"  # a number of the paper


_MIXTURE = "HAT's Table 1, mixture, rho {}"
_TIL = "{} % split CIFAR-10, task told, buffer 200 (Buzzega et al. 2020)"  # ResNet-18
_WSN = "WSN's table: {} permuted MNIST, {} 5-datasets, {} CIFAR-100 in 10"

# Of every method of the registry, in its order. `told` is what its paper assumes.
METHODS: dict[str, Facts] = {
    "hat": Facts(
        f"{EXACT} where gates are 0 or 1", "no", "yes", "Serra et al., ICML 2018",
        _MIXTURE.format("-0.06") + "; 98.6 % permuted MNIST",
    ),
    "random": Facts(EXACT, "no", "yes", "-", _MIXTURE.format("-1, by definition")),
    "sgd": Facts(NOTHING, "no", "yes", "-", _MIXTURE.format("-0.66")),
    "sgd_restart": Facts(NOTHING, "no", "yes", "-"),
    "sgd_frozen": Facts(EXACT, "no", "yes", "-", _MIXTURE.format("-0.44")),
    "joint": Facts("trained anew", "all", "yes", "-", _MIXTURE.format("0, by definition")),
    "lwf": Facts(SOFT, "no", "yes", "Li and Hoiem, ECCV 2016", _MIXTURE.format("-0.80")),
    "lfl": Facts(SOFT, "no", "yes", "Jung et al., 2016", _MIXTURE.format("-0.92")),
    "ewc": Facts(SOFT, "no", "yes", "Kirkpatrick et al., PNAS 2017", _MIXTURE.format("-0.25")),
    "imm_mean": Facts(SOFT, "no", "yes", "Lee et al., NIPS 2017", _MIXTURE.format("-0.42")),
    "imm_mode": Facts(SOFT, "no", "yes", "Lee et al., NIPS 2017", _MIXTURE.format("-0.49")),
    "progressive": Facts(EXACT, "no", "yes", "Rusu et al., 2016", _MIXTURE.format("-0.11")),
    "pathnet": Facts(EXACT, "no", "yes", "Fernando et al., 2017", _MIXTURE.format("-0.17")),
    "si": Facts(
        SOFT, "no", "yes", "Zenke et al., ICML 2017",
        "68.05 % split CIFAR-10, task told (Buzzega et al. 2020)",
    ),
    "mas": Facts(SOFT, "no", "yes", "Aljundi et al., ECCV 2018"),
    "er": Facts(SOFT, "a buffer", "yes", "Chaudhry et al., 2019", _TIL.format("91.19")),
    "derpp": Facts(SOFT, "a buffer", "yes", "Buzzega et al., NeurIPS 2020", _TIL.format("91.92")),
    "agem": Facts(
        "no worse on the buffer, to first order", "a buffer", "yes", "Chaudhry et al., ICLR 2019",
        _TIL.format("83.88"),
    ),
    "adahat": Facts(
        "held softly, and less as units run out", "no", "yes", "Wang et al., ECML PKDD 2024"
    ),
    "wsn": Facts(EXACT, "no", "yes", "Kang et al., ICML 2022", _WSN.format(96.4, 93.4, 76.4)),
    "packnet": Facts(
        EXACT, "no", "yes", "Mallya and Lazebnik, CVPR 2018", _WSN.format(96.4, 92.8, 72.4)
    ),
    "supsup": Facts(
        EXACT, "no", "no: it can be inferred", "Wortsman et al., NeurIPS 2020",
        _WSN.format(96.3, 93.3, 75.5),
    ),
}  # fmt: skip


def approach_of(name: str, tasks: int) -> Approach:
    """The method on the network of EXPERIMENT, for so many tasks."""
    c = configs.make(EXPERIMENT, name, same=True)
    return approaches.make(c, networks.make(c, (28, 28, 1), (10,) * tasks))


def bytes_of(name: str) -> tuple[int, int, int]:
    """Bytes: of the memory with TASKS tasks; of it and of the parameters, what a task adds."""
    more_params, more_memory = remembered.growth(lambda n: approach_of(name, n), TASKS)
    return remembered.memory(approach_of(name, TASKS)), more_memory, more_params


def multiply_adds_of(name: str) -> int:
    """The multiply-adds of the matrix products of a step of CASE."""
    c, _, approach = steps.build(CASE, name)
    hyper = train.hyperparameters(c)

    def one(key: Array, x: Array, y: Array) -> Tree:
        params, memory = approach.init(key)
        step = Step(y[0], y[0], jnp.float32(0.5), jnp.float32(0.1), key, hyper)
        own = approach.take(params, memory, step)
        optimizer = train.moments(approach, own, memory, step)
        batch = Batch(x, y, y, jnp.ones(len(y)))
        own, optimizer, _, _, memory = train.observed_step(
            approach, own, memory, optimizer, batch, step
        )
        return own, optimizer, memory

    x = jnp.zeros((CASE.batch, *steps.IMAGE[CASE.network]))
    y = jnp.zeros(CASE.batch, jnp.int32)
    return sum(map(multiply_adds, products(one, jax.random.key(0), x, y)))


def costs(names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    """The time of a step over that of SGD: the median and the range over the rounds."""
    every = dict.fromkeys(["sgd", *names])
    runs = {name: steps.prepare(CASE, name, STEPS).steps for name in every}
    times = interleave(runs, STEPS, rounds)
    return {name: ratio(times[name], times["sgd"]) for name in names}


def reached(runs: str, name: str) -> str:
    """The average accuracy of a method's kept runs in %, as "72.8 ± 0.6"; "-" if there are none."""
    folder = RESULTS / runs / name
    where = [p.parent for p in (*folder.glob("accuracy.npy"), *folder.glob("seed*/accuracy.npy"))]
    if not where:
        return "-"
    each = [100 * metrics.average_accuracy(results.read_accuracy(p)) for p in where]
    mean, deviation = metrics.over_seeds(each)
    return f"{mean:.1f}" + (f" ± {deviation:.1f}" if len(each) > 1 else "")


def shown(size: int) -> str:
    """Bytes for a table. A progressive network's columns are the narrower the more tasks there are:
    a further one makes it no larger, and a dash stands there."""
    if size < 0:
        return "-"
    return f"{size / 1e6:,.2f} MB" if size >= 1e4 else f"{size:,} B"


def rows(rounds: int) -> list[list[str]]:
    """All that the tables say: a row for each method, its head first."""
    there = [name for name in METHODS if name in configs.APPROACHES]
    timed = [name for name in there if name not in ("random", "progressive", "pathnet")]
    cost = costs(timed, rounds) if rounds else {}
    plain = multiply_adds_of("sgd")
    found = [
        ["method", "its past", "needs old data", "task told at test", "remembers, 10 tasks",
         "a further task: memory", "and parameters", "products / SGD's", "step / SGD's", "paper",
         "its number there", "ours, permuted MNIST", "ours, incremental CIFAR"]
    ]  # fmt: skip
    for name, facts in METHODS.items():
        size = [shown(n) for n in bytes_of(name)] if name in there else ["-"] * 3
        step, product = "-", "-"
        if name in timed:
            product = f"{multiply_adds_of(name) / plain:.2f}"
        if r := cost.get(name):
            step = f"{r['ratio']:.2f} ({r['least']:.2f} to {r['most']:.2f})"
        found.append(
            [f"`{name}`", facts.past, facts.old_data, facts.told, *size, product, step, facts.paper,
             facts.number, reached("pmnist-100", name), reached("cifar-half", name)]
        )  # fmt: skip
    return found


def halves(rows: Sequence[list[str]]) -> list[list[list[str]]]:
    """The rows as two tables that fit a page: promise and memory; cost, paper and accuracies."""
    return [[row[:7] for row in rows], [row[:1] + row[7:] for row in rows]]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a table in Markdown."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(_: list[str]) -> None:
    """Print the tables."""
    print(*map(table, halves(rows(ROUNDS.value))), sep="\n\n")


if __name__ == "__main__":
    cli.start(main, cli.parse_flags)
