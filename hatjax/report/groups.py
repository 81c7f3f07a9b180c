"""Which runs are compared with each other, and with which reference runs.

Runs of an experiment with the same setting (settings.py) form a group, with a table and figures.
Runs in it are labelled by approach and variant; runs with the same label differ only in the seed.
A label does not depend on the other runs: it is what the frames and CSV files have. In the tables
and figures of a group, a run's name has only what differs among them.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hatjax import config as configs
from hatjax.analysis import metrics
from hatjax.report.names import paper, short, words
from hatjax.report.read import Record
from hatjax.report.settings import known

Groups = dict[str, list[Record]]  # name -> runs, sorted by approach, variant and seed
MANY = 9  # settings of an approach that a figure can show as lines: a grid of three by three


def groups(records: Iterable[Record]) -> tuple[Groups, list[str]]:
    """The runs by group, and a note for each duplicate that is left out.

    Of duplicates, the run that has learned the most tasks is kept.
    """
    same = [list(runs) for _, runs in itertools.groupby(sorted(records, key=order), key=order)]
    kept = [max(runs, key=lambda r: len(r.acc)) for runs in same]
    notes = [
        f"{r.where} is left out: it is the same run as {k.where}"
        for k, runs in zip(kept, same, strict=True)
        for r in runs
        if r is not k
    ]
    each = [list(runs) for _, runs in itertools.groupby(kept, key=lambda r: order(r)[:3])]
    return {name(runs[0], [other[0] for other in each]): by_name(runs) for runs in each}, notes


def by_name(records: Sequence[Record]) -> list[Record]:
    """The runs of a group, sorted by approach, what varies among its runs, and seed."""
    differ = varied(records)
    return sorted(records, key=lambda r: (order(r)[3], ordered(told(r, differ)), r.seed))


def order(record: Record) -> tuple:
    """The sort key of a run: experiment, setting, approach, variant and seed.

    Experiments and approaches are in the order of hatjax.config. Only duplicates have equal keys.
    """
    experiment, names = record.config.experiment, [*configs.EXPERIMENTS]
    like = known(experiment)
    return (
        names.index(like) if like in names else len(names), experiment, ordered(record.setting),
        list(configs.APPROACHES).index(record.approach), ordered(record.variant), record.seed,
    )  # fmt: skip


def ordered(fields: Mapping[str, object]) -> tuple:
    """A sort key for fields: by name, then numbers by size and other values by their repr."""
    return tuple(
        (k, 0, v) if isinstance(v, int | float) else (k, 1, repr(v))
        for k, v in sorted(fields.items())
    )


def name(record: Record, others: Iterable[Record]) -> str:
    """The name of a group: the experiment, and the fields that differ between its groups."""
    settings = [r.setting for r in others if r.config.experiment == record.config.experiment]
    paths = sorted({path for setting in settings for path in setting})
    told = [
        words({k: record.setting[k]}) if k in record.setting else f"default {short(k)}"
        for k in paths
        if any(s.get(k) != settings[0].get(k) for s in settings)
    ]
    return record.config.experiment + (f" ({', '.join(told)})" if told else "")


def varied(records: Iterable[Record]) -> dict[str, list[str]]:
    """The approach's own fields (dotted paths) that differ among the runs of each approach."""
    mine: dict[str, list[Record]] = {}
    for r in records:
        mine.setdefault(r.approach, []).append(r)
    return {
        approach: [
            k
            for k in sorted({k for r in runs for k in r.variant})
            if len({repr(values(r).get(k)) for r in runs}) > 1
        ]
        for approach, runs in mine.items()
    }


def values(record: Record) -> dict[str, object]:
    """Every field of a run that may be in its variant, be it at its default or not."""
    return configs.fields(record.config) | record.variant


def told(record: Record, differ: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """The values of a run in the fields of `varied`."""
    found = values(record)
    return {k: found[k] for k in differ[record.approach] if k in found}


def names(records: Iterable[Record]) -> dict[str, str]:
    """The name of each label in the tables and figures of a group: "HAT (c=0.75, s_max=400)".

    It has the approach's name as in the paper, and the value of each field that varies among its
    runs, also where that is the default.
    """
    records = list(records)
    differ = varied(records)
    fields = {r.label: words(told(r, differ)) for r in records}
    return {
        r.label: paper(r.approach) + (f" ({fields[r.label]})" if fields[r.label] else "")
        for r in records
    }


def shared(records: Iterable[Record]) -> str:
    """What a group has in place of the defaults: "lr=0.1; HAT: c=0.1; EWC: lamb=50".

    First what all its runs have, then what all runs of an approach have.
    """
    records = list(records)
    differ = varied(records)
    found = {
        r.approach: words({k: v for k, v in r.variant.items() if k not in differ[r.approach]})
        for r in records
    }
    own = [f"{paper(approach)}: {fields}" for approach, fields in found.items() if fields]
    return "; ".join(filter(None, (words(records[0].setting), *own)))


def shown(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The runs for the figures over tasks, and a sentence for each approach that has others, too.

    Of an approach, those without a variant; if there are none all, or of more than MANY settings
    the one with the best average accuracy.
    """
    found: list[Record] = []
    sentences = []
    for approach, runs in itertools.groupby(records, key=lambda r: r.approach):
        settings: dict[str, list[Record]] = {}
        for r in runs:
            settings.setdefault(r.label, []).append(r)
        every = list(settings.values())
        some, which = [s for s in every if not s[0].variant], "the defaults alone"
        if not some and len(every) > MANY:
            some, which = [max(every, key=standing)], "the one with the best average accuracy"
        some = some or every
        found += itertools.chain(*some)
        if len(some) < len(every):
            sentences.append(f"Of {len(every)} settings of {paper(approach)}: {which}.")
    return found, sentences


def standing(seeds: Sequence[Record]) -> tuple[int, float]:
    """How many tasks all seeds of a setting have learned, and their average accuracy after them."""
    learned = min(len(r.acc) for r in seeds)
    if not learned:
        return 0, 0.0
    return learned, float(np.mean([metrics.average_accuracy(r.acc) for r in seeds]))


def reference(record: Record, approach: str, records: Sequence[Record]) -> Record | None:
    """The run of `approach` with the seed, setting and tasks of `record`, as its reference.

    Of several, the one that has learned the most tasks, then one with the same widths; None if
    there is none.
    """

    def shared(r: Record) -> tuple:
        # Schedule and network do not matter to `random`, which trains nothing.
        parts = ("data.", "tasks.", "fidelity") if approach == "random" else ("",)
        setting = {k: v for k, v in r.setting.items() if k.startswith(parts)}
        return r.config.experiment, r.seed, r.names, setting

    def preference(r: Record) -> tuple:
        widths = [x.config.network.get("widths") for x in (r, record)]
        return len(r.acc), widths[0] == widths[1], not r.variant

    alike = [r for r in records if r.approach == approach and shared(r) == shared(record)]
    return max(alike, key=preference, default=None)
