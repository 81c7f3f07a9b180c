"""What a report lacks, and the commands that make it."""

import itertools
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hatjax import cli
from hatjax import config as configs
from hatjax.report.groups import Group, reference, usual
from hatjax.report.names import slug
from hatjax.report.numbers import METRICS, Values, tasks
from hatjax.report.read import Record, shortest

REFERENCES = tuple(dict.fromkeys(a for m in METRICS.values() for a in m.needs))


class Missing(NamedTuple):
    """Something that is not in the report."""

    what: str
    commands: tuple[str, ...] = ()


def command(group: Group, approach: str, seeds: Sequence[int], *more: str) -> str:
    """The command that makes runs of `approach` that belong to `group`, beside those of it.

    `seeds` follow each other; `more` are further flags.
    """
    like = next((r for r in group.records if r.approach == approach), group.records[0])
    name = usual(group.experiment)
    same = ",same" if any("same" in line.variant for line in group.lines) else ""
    fields = dict(group.setting)
    if name != group.experiment:
        fields = {"experiment": group.experiment} | fields
    if like.config.data.root:
        fields["data.root"] = like.config.data.root
    where = beside(like) / slug(f"{group.name} {approach}")
    if len(seeds) > 1:
        fields |= {"seed": seeds[0], "seeds": len(seeds)} if seeds[0] else {"seeds": len(seeds)}
    else:
        fields |= {"seed": seeds[0]} if seeds[0] else {}
        where = where.with_name(f"{where.name}-seed{seeds[0]}")
    flags = [f"--config.{k}={v}" for k, v in fields.items()]
    config = f"{shortest(cli.CONFIGS / 'baseline.py')}:{approach},{name}{same}"
    words = ["python", "-m", "hatjax.main", "--config", config, *flags, *more]
    return " ".join(map(quoted, [*words, f"--workdir={where}"]))


def quoted(word: str) -> str:
    """A word of a command as a person would quote it."""
    plain = shlex.quote(word)
    return plain if plain == word or set(word) & set('"$`\\!') else f'"{word}"'


def beside(record: Record) -> Path:
    """The folder that holds a run, or the folder of its seeds."""
    where = record.where.parent
    return where.parent if record.where.name.startswith("seed") else where


def ranges(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds that follow each other, together: one command makes them."""
    each = itertools.groupby(enumerate(sorted(set(seeds))), lambda pair: pair[1] - pair[0])
    return [[seed for _, seed in run] for _, run in each]


def missing(groups: Sequence[Group], found: Values, drawn: Iterable[str]) -> list[Missing]:
    """Everything that the runs of `groups` do not give; `drawn` are the kinds of figures there."""
    lacks = [m for group in groups for m in [*of_group(group, groups), *undefined(group, found)]]
    return lacks + of_figures(groups, set(drawn))


def undefined(group: Group, found: Values) -> list[Missing]:
    """rho, where the runs that it needs are there but joint training learned nothing."""
    curves = [found[r.where].get("rho", ()) for r in group.records]
    if not any(map(len, curves)) or any(np.isfinite(curve).any() for curve in curves):
        return []
    return [Missing(
        f"{group.name}: rho, since joint training only guesses there (eq. 6 divides by what it is "
        "better than guessing): train longer, or on more images"
    )]  # fmt: skip


def of_group(group: Group, groups: Sequence[Group]) -> list[Missing]:
    found = []
    every = [record for other in groups for record in other.records]
    own = [line for line in group.lines if line.approach not in REFERENCES]
    compared = [record for line in own for record in line.records]
    if unfinished := [r for r in group.records if not r.finished]:
        found.append(Missing(
            f"{group.name}: {len(unfinished)} of {len(group.records)} runs are unfinished and only "
            "in the tables and figures over tasks, as far as they are: wait, or repeat the command "
            f"that began them ({', '.join(str(r.where) for r in unfinished[:8])}"
            f"{', ...' if len(unfinished) > 8 else ''})"
        ))  # fmt: skip
    if tasks(group.records) != 1 and compared:
        for approach in REFERENCES:
            seeds = [
                r.config.seed for r in compared if r.names and not reference(r, approach, every)
            ]
            lacking = [m for m in METRICS if approach in METRICS[m].needs]
            if seeds:
                found.append(Missing(
                    f"{group.name}: {' and '.join(lacking)} for {plural(seeds)}, for lack of the "
                    f"runs of {approach} that {'it is' if len(lacking) == 1 else 'they are'} "
                    "compared with",
                    tuple(command(group, approach, run) for run in ranges(seeds)),
                ))  # fmt: skip
        absent = [a for a in configs.APPROACHES if a not in {line.approach for line in group.lines}]
        absent = [a for a in absent if a not in REFERENCES]
        if absent:
            seeds = ranges(r.config.seed for r in compared)
            found.append(Missing(
                f"{group.name}: runs of {', '.join(absent)}, to stand beside the others",
                tuple(
                    f"for a in {' '.join(absent)}; do "
                    f"{command(group, 'APPROACH', run).replace('APPROACH', '$a')}; done"
                    for run in seeds
                ),
            ))  # fmt: skip
    alone = [line for line in own if len(line.records) == 1]
    if alone:
        (record,) = alone[0].records
        found.append(Missing(
            f"{group.name}: standard deviation and interval of "
            f"{', '.join(line.label for line in alone)}, which ran with one seed; for example",
            (command(group, record.approach, [record.config.seed + 1, record.config.seed + 2]),)
            if not alone[0].variant else (),
        ))  # fmt: skip
    return found


def plural(seeds: Sequence[int]) -> str:
    seeds = sorted(set(seeds))
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def of_figures(groups: Sequence[Group], drawn: set[str]) -> list[Missing]:
    """The paper's figures that no run of the report gives."""
    several = [g for g in groups if tasks(g.records) != 1]
    hat = next((g for g in several if any(line.approach == "hat" for line in g.lines)), None)
    like = hat or (several[0] if several else None)
    grid = "--config.grid=approach.s_max=25,100,400,800 approach.c=0.1,0.75,2.5,4"
    prefix = f"python -m hatjax.main --config {shortest(cli.CONFIGS)}"

    def of_hat(*more: str) -> str:
        if like is None:
            return " ".join([f"{prefix}/hat_digits.py", *map(quoted, more)])
        return command(like, "hat", [0, 1, 2], *more)

    needs = {
        "fig3": ("Fig. 3, rho over the number of tasks: it needs runs, random and joint", ""),
        "fig4": ("Fig. 4, the effect of s_max and c: it needs a grid of both", of_hat(grid)),
        "fig5": ("Fig. 5, the capacity used over training: it needs a run of HAT", of_hat()),
        "fig6": ("Fig. 6, weights used again by later tasks: it needs a run of HAT", of_hat()),
        "fig7": (
            "Fig. 7, accuracy against kept weights: it needs runs of one task",
            f"{prefix}/hat_compression.py:mnist",
        ),
    }
    return [
        Missing(what, (how,) if how else ())
        for kind, (what, how) in needs.items()
        if kind not in drawn
    ]
