"""Like beside like: which runs may stand in one table, and what each is held against.

Runs of an experiment are one group if they differ at most in the seed and the approach. What an
approach may have of its own (its numbers, its share of the network) makes lines of a group, what
all share (data, tasks, schedule, widths) makes groups. Both are told by what is otherwise than
usual, config.make, since the usual network of an experiment is not the same for each approach.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.report.names import words
from hatjax.report.read import Record

# Fields that say which run it is, where and how it runs, but not what is compared.
ASIDE = (
    "experiment", "seed", "seeds", "grid", "eval_batch", "approach.name", "approach.gated",
    *configs.FREE,
)  # fmt: skip


class Line(NamedTuple):
    """The runs of one approach in a group: a row of a table, a line of a figure."""

    approach: str
    variant: dict[str, object]  # what it has otherwise than usual
    records: tuple[Record, ...]  # by seed

    @property
    def label(self) -> str:
        return self.approach + (f" ({words(self.variant)})" if self.variant else "")


class Group(NamedTuple):
    """The runs that are compared with each other."""

    experiment: str
    setting: dict[str, object]  # what they have otherwise than usual
    name: str  # the experiment, with what tells it from its other groups
    lines: tuple[Line, ...]

    @property
    def records(self) -> list[Record]:
        return [record for line in self.lines for record in line.records]


def groups(records: Sequence[Record]) -> tuple[list[Group], list[str]]:
    """The groups of `records`, and a line for each that is left out, being there twice."""
    found: dict[tuple, dict[tuple, dict[int, Record]]] = {}
    notes = []
    for record in records:
        setting, variant = peculiar(record.config)
        lines = found.setdefault((record.config.experiment, key(setting)), {})
        seeds = lines.setdefault((record.approach, key(variant)), {})
        other = seeds.get(record.config.seed)
        if other is None:
            seeds[record.config.seed] = record
            continue
        kept, left = (other, record) if len(other.acc) >= len(record.acc) else (record, other)
        seeds[record.config.seed] = kept
        notes.append(f"{left.where} is left out: it is the same run as {kept.where}")
    order = list(configs.EXPERIMENTS)
    made = []
    for (experiment, setting), lines in found.items():
        own = [
            Line(a, dict(v), tuple(s for _, s in sorted(seeds.items())))
            for (a, v), seeds in sorted(lines.items(), key=rank)
        ]
        made.append(Group(experiment, dict(setting), experiment, tuple(own)))
    made.sort(key=lambda g: (order.index(usual(g.experiment)), g.experiment, str(g.setting)))
    return [g._replace(name=name(g, made)) for g in made], notes


def rank(line: tuple[tuple[str, tuple], dict]) -> tuple:
    """The order of lines: that of config.APPROACHES, then of their numbers."""
    approach, variant = line[0]
    return list(configs.APPROACHES).index(approach), [(k, str(type(v)), v) for k, v in variant]


def key(fields: dict[str, object]) -> tuple:
    return tuple(sorted(fields.items()))


def usual(experiment: str) -> str:
    """The known experiment with which `experiment` is compared field by field.

    A variant is named EXPERIMENT-ANYTHING; one of an image set of one's own is held against pmnist.
    """
    named = (experiment, experiment.split("-")[0])
    return next((n for n in named if n in configs.EXPERIMENTS), "pmnist")


def peculiar(config: ConfigDict) -> tuple[dict[str, object], dict[str, object]]:
    """What a run has otherwise than usual: in what all approaches share, and of its approach alone.

    The baselines' smaller MLP and HAT's (config.make, `same`) are both usual; the latter is a
    baseline's variant "same".
    """
    approach, mine = config.approach.name, configs.fields(config)
    of_approach = [f"network.{k}" for k in configs.APPROACHES[approach].network]

    def against(same: bool) -> dict[str, object]:
        other = configs.fields(configs.make(usual(config.experiment), approach, same))
        return {k: v for k, v in mine.items() if k not in ASIDE and other.get(k, v) != v}

    published, same = against(False), against(True)
    found = same | {"same": True} if len(same) < len(published) else published
    variant = {
        k: v
        for k, v in found.items()
        if k.startswith("approach.") or k in of_approach or k == "same"
    }
    return {k: v for k, v in found.items() if k not in variant}, variant


def name(group: Group, every: Iterable[Group]) -> str:
    """The experiment, and the fields in which it differs from other groups of that experiment."""
    others = [g.setting for g in every if g.experiment == group.experiment]
    differ = [k for k in sorted(set().union(*others)) if len({str(s.get(k)) for s in others}) > 1]
    told = [
        words({k: group.setting[k]}) if k in group.setting else f"usual {k.split('.')[-1]}"
        for k in differ
    ]
    return group.experiment + (f" ({', '.join(told)})" if told else "")


def shown(group: Group, approaches: Iterable[str] = configs.APPROACHES) -> list[Line]:
    """The lines of figures: of an approach the usual one if it is there, else all its variants."""
    lines = []
    for approach in approaches:
        mine = [line for line in group.lines if line.approach == approach]
        lines += [line for line in mine if not line.variant] or mine
    return lines


def reference(record: Record, approach: str, records: Iterable[Record]) -> Record | None:
    """The run of `approach` on the same tasks, in the same order, that `record` is compared with.

    Schedule and network do not matter to `random`, which trains nothing. Of several, one with the
    run's own network goes first.
    """

    def shared(config: ConfigDict) -> dict[str, object]:
        setting = peculiar(config)[0]
        if approach != "random":
            return setting
        return {k: v for k, v in setting.items() if k.startswith(("data.", "tasks.", "fidelity"))}

    mine = shared(record.config)
    alike = [
        r
        for r in records
        if r.approach == approach
        and r.config.experiment == record.config.experiment
        and r.config.seed == record.config.seed
        and r.names == record.names
        and shared(r.config) == mine
    ]

    def preference(r: Record) -> tuple:
        same = r.config.network.widths == record.config.network.widths
        return len(r.acc), same, not peculiar(r.config)[1]

    return max(alike, key=preference, default=None)
