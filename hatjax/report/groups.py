"""Which runs are compared with each other, and which run each is held against.

Runs of an experiment with the same setting (settings.py) are a group: a table, and figures. Within
it a run is labelled by its approach and variant; runs of the same label differ in the seed alone.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from hatjax import config as configs
from hatjax.report.names import short, words
from hatjax.report.read import Record
from hatjax.report.settings import known

Groups = dict[str, list[Record]]  # by name; runs by approach, variant and seed


def groups(records: Iterable[Record]) -> tuple[Groups, list[str]]:
    """The runs by group, and a line for each that is left out, since it is there twice.

    Of two the one is kept that has learned more tasks.
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
    return {name(runs[0], [other[0] for other in each]): runs for runs in each}, notes


def order(record: Record) -> tuple:
    """Where a run stands: by experiment, setting, approach, variant and seed.

    Experiments and approaches come in the order of hatjax.config. Only the same run has the same.
    """
    experiment = record.config.experiment
    return (
        list(configs.EXPERIMENTS).index(known(experiment)), experiment, ordered(record.setting),
        list(configs.APPROACHES).index(record.approach), ordered(record.variant), record.seed,
    )  # fmt: skip


def ordered(fields: Mapping[str, object]) -> tuple:
    """Fields by their names, numbers by size; others are compared as Python writes them."""
    return tuple(
        (k, 0, v) if isinstance(v, int | float) else (k, 1, repr(v))
        for k, v in sorted(fields.items())
    )


def name(record: Record, others: Iterable[Record]) -> str:
    """The experiment, and the fields in which the group of `record` differs from `others` of it."""
    settings = [r.setting for r in others if r.config.experiment == record.config.experiment]
    paths = sorted({path for setting in settings for path in setting})
    told = [
        words({k: record.setting[k]}) if k in record.setting else f"default {short(k)}"
        for k in paths
        if any(s.get(k) != settings[0].get(k) for s in settings)
    ]
    return record.config.experiment + (f" ({', '.join(told)})" if told else "")


def shown(records: Iterable[Record]) -> list[Record]:
    """The runs that figures show: of an approach those with its defaults, if any, else all."""
    records = list(records)
    plain = {r.approach for r in records if not r.variant}
    return [r for r in records if not r.variant or r.approach not in plain]


def reference(record: Record, approach: str, records: Sequence[Record]) -> Record | None:
    """The run of `approach` with the same seed, setting and tasks, that `record` is compared with.

    Of several the one that has learned most tasks, then one with the run's own widths; None if
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
