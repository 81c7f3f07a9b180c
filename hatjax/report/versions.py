"""With which versions the runs of a report were trained, and where seeds of several are pooled."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hatjax.report.groups import Groups, names
from hatjax.report.read import Record

SHOWN = ("hatjax", "commit", "jax")  # columns of the frame of runs


def columns(record: Record) -> dict[str, str | None]:
    """What a run was trained with, {"hatjax": "0.1.0", ...}, None where that is not known.

    Of a run that went on with other versions, all in their order: "0.1.0, 0.2.0".
    """
    found = {k: dict.fromkeys(e[k] for e in record.versions if k in e) for k in SHOWN}
    return {k: ", ".join(v) or None for k, v in found.items()}


def mixtures(groups: Groups) -> list[str]:
    """A note for each group in which runs of several versions are pooled as seeds."""
    return [note for name, records in groups.items() for note in mixture(name, records)]


def mixture(group: str, records: Sequence[Record]) -> Iterable[str]:
    """The note about a group, if there is one."""
    labels: dict[str, list[Record]] = {}
    for r in records:
        labels.setdefault(r.label, []).append(r)
    mixed = {k: runs for k, runs in labels.items() if len({v for r in runs for v in told(r)}) > 1}
    if not mixed:
        return
    places: dict[str, list[Path]] = {}
    for runs in mixed.values():
        for r in runs:
            for version in told(r):
                places.setdefault(version, []).append(r.where)
    named = names(records)
    yield (
        f"{group}: the runs of {', '.join(named[k] for k in mixed)} were trained by different "
        "versions, so their mean and spread are not those of seeds alone: "
        + "; ".join(f"{version}: {some(runs)}" for version, runs in places.items())
    )


def told(record: Record) -> list[str]:
    """The versions of a run in words, each once."""
    entries = [in_words(entry) for entry in record.versions]
    return list(dict.fromkeys(entries)) or ["unknown (an older run)"]


def in_words(entry: Mapping[str, str]) -> str:
    """An entry of versions.json: "hatjax 0.1.0 (a1b2c3d4e5) with jax 0.10.2"."""
    commit = f" ({short(entry['commit'])})" if entry.get("commit") else ""
    return f"hatjax {entry.get('hatjax', '?')}{commit} with jax {entry.get('jax', '?')}"


def short(text: str) -> str:
    """A text with the first ten digits of each commit in it."""
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", text)


def some(runs: Sequence[Path]) -> str:
    """The first workdirs of a list."""
    more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
    return ", ".join(map(str, runs[:4])) + more
