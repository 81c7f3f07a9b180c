"""What is missing from a report, and the commands that train the runs for it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hatjax import config as configs
from hatjax.report.commands import command, consecutive, main
from hatjax.report.groups import Groups, names, reference
from hatjax.report.numbers import FEWEST, METRICS, Runs
from hatjax.report.read import Record

REFERENCES = tuple(dict.fromkeys(a for m in METRICS.values() for a in m.needs))


class Missing(NamedTuple):
    """Something that is missing from the report."""

    what: str
    commands: tuple[str, ...] = ()


def missing(groups: Groups, found: Runs, drawn: Iterable[str]) -> list[Missing]:
    """Everything that the runs do not provide; `drawn` has the kinds of figures in the report."""
    every = [record for records in groups.values() for record in records]
    lacks: list[Missing] = []
    for name, records in groups.items():
        own = [*unfinished(name, records)]
        if several_tasks(records):
            own += references(name, records, every)
            own += approaches(name, records)
        own += seeds(name, records)
        own += undefined(name, records, found, every)
        lacks += own if repeatable(records) else [m._replace(commands=()) for m in own]
    return [*lacks, *figures(groups, set(drawn))]


def several_tasks(records: Sequence[Record]) -> bool:
    """Whether the runs have several tasks, or their number is not known yet."""
    return max(len(r.names) for r in records) != 1


def repeatable(records: Sequence[Record]) -> bool:
    """Whether a command gives the like of the runs: not of arrays, and not if one extends another,
    with which it begins.
    """
    return not any(r.config.extends.run or r.config.tasks.kind == "given" for r in records)


def compared(records: Sequence[Record]) -> list[Record]:
    """The runs that are not references for others."""
    return [r for r in records if r.approach not in REFERENCES]


def unfinished(name: str, records: Sequence[Record]) -> Iterator[Missing]:
    """The runs that have not learned all tasks."""
    for r in records:
        if r.diverged:
            yield Missing(f"{name}: {r.where} ended early: {r.diverged}")
    if some := [str(r.where) for r in records if not r.finished and not r.diverged]:
        yield Missing(
            f"{name}: {len(some)} of {len(records)} runs are unfinished, and only in tables and "
            "figures over tasks, for the tasks learned: wait, or repeat the command that started "
            f"them ({', '.join(some[:8])}{', ...' if len(some) > 8 else ''})"
        )


def references(name: str, records: Sequence[Record], every: Sequence[Record]) -> Iterator[Missing]:
    """Metrics whose reference runs are missing."""
    for approach in REFERENCES:
        some = sorted({
            r.seed for r in compared(records) if r.names and not reference(r, approach, every)
        })  # fmt: skip
        metrics = [METRICS[m].label or m for m in METRICS if approach in METRICS[m].needs]
        if some:
            yield Missing(
                f"{name}: {' and '.join(metrics)} for seed{'s' if len(some) > 1 else ''} "
                f"{', '.join(map(str, some))}: no runs of {approach} to compare with",
                tuple(command(name, records, approach, seeds) for seeds in consecutive(some)),
            )


def approaches(name: str, records: Sequence[Record]) -> Iterator[Missing]:
    """Approaches without runs."""
    own = compared(records)
    there = {*REFERENCES, *(r.approach for r in own)}
    absent = [a for a in configs.APPROACHES if a not in there]
    if own and absent:
        commands = [command(name, records, "APPROACH", s) for s in consecutive(r.seed for r in own)]
        yield Missing(
            f"{name}: runs of {', '.join(absent)}, to compare with the others",
            tuple(
                f"for a in {' '.join(absent)}; do {c.replace('APPROACH', '$a')}; done"
                for c in commands
            ),
        )


def seeds(name: str, records: Sequence[Record]) -> Iterator[Missing]:
    """Standard deviations and intervals of runs with too few seeds."""
    labels, named = [r.label for r in records], names(records)
    lacking = {1: "standard deviation and interval", 2: "interval"}
    for count, what in lacking.items():
        few = {r.label: r for r in compared(records) if labels.count(r.label) == count}
        if few:
            # Of those that a command can name.
            usual = [r for r in few.values() if not r.variant and repeatable(records)]
            more = [
                command(name, records, r.approach, [r.seed + 1 + i for i in range(FEWEST - count)])
                for r in usual[:1]
            ]
            yield Missing(
                f"{name}: {what} of {', '.join(named[label] for label in few)}, "
                f"which ran with {count} seed{'s' if count > 1 else ''}"
                + ("; for example" if more else ""),
                tuple(more),
            )


def undefined(
    name: str, records: Sequence[Record], found: Runs, every: Sequence[Record]
) -> Iterator[Missing]:
    """rho, if its reference runs exist but joint training learned nothing."""
    tasks = found.of(records).tasks
    joint = tasks["intransigence"].notna().any()  # which needs joint training alone
    random = any((r := reference(record, "random", every)) and len(r.acc) for record in records)
    if joint and random and tasks["rho"].isna().all():
        yield Missing(
            f"{name}: ρ (rho), since joint training is at chance (eq. 6 divides by its gain over "
            "guessing): train longer, or on more images"
        )


def figures(groups: Groups, drawn: set[str]) -> Iterator[Missing]:
    """The paper's figures that cannot be drawn from the runs."""
    several = [n for n, rs in groups.items() if several_tasks(rs) and repeatable(rs)]
    with_hat = [name for name in several if any(r.approach == "hat" for r in groups[name])]

    def hat(*more: str) -> str:
        for name in with_hat or several:
            return command(name, groups[name], "hat", [0, 1, 2], *more)
        return main("hat_digits.py", *more)

    grid = hat("--config.grid=approach.s_max=25,100,400,800 approach.c=0.1,0.75,2.5,4")
    alone = main("hat_compression.py:mnist")
    needs = {
        "fig3": ("Fig. 3, ρ (rho) over the number of tasks: it needs random, joint and others", ()),
        "fig4": ("Fig. 4, the effect of s_max and c: it needs a grid of both", (grid,)),
        "fig5": ("Fig. 5, the capacity used over training: it needs a run of HAT", (hat(),)),
        "fig6": (
            "Fig. 6, weights used again by later tasks: it needs a run of HAT with its model, "
            "which copies by --thin lack",
            (hat(),),
        ),
        "fig7": ("Fig. 7, accuracy against kept weights: it needs runs of one task", (alone,)),
    }
    yield from (Missing(*needs[kind]) for kind in needs if kind not in drawn)
