"""Which runs are compared with each other, and with which reference runs.

Runs of an experiment with the same setting (settings.py) form a group, with a table and figures.
Runs in it are labelled by approach and variant; runs with the same label differ only in the seed.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from hatjax import config as configs
from hatjax.report.names import short, words
from hatjax.report.read import Record
from hatjax.report.settings import known

Groups = dict[str, list[Record]]  # name -> runs, sorted by approach, variant and seed


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
    return {name(runs[0], [other[0] for other in each]): runs for runs in each}, notes


def order(record: Record) -> tuple:
    """The sort key of a run: experiment, setting, approach, variant and seed.

    Experiments and approaches are in the order of hatjax.config. Only duplicates have equal keys.
    """
    experiment = record.config.experiment
    return (
        list(configs.EXPERIMENTS).index(known(experiment)), experiment, ordered(record.setting),
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


def shown(records: Iterable[Record]) -> list[Record]:
    """The runs for the figures: for each approach those without a variant, or all if none is."""
    records = list(records)
    plain = {r.approach for r in records if not r.variant}
    return [r for r in records if not r.variant or r.approach not in plain]


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
