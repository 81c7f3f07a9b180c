"""Commands that train missing runs, to compare with the existing ones."""

import itertools
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from hatjax import cli
from hatjax.report.names import slug
from hatjax.report.read import Record, shortest
from hatjax.report.settings import WIDTHS, known


def command(
    name: str, records: Sequence[Record], approach: str, seeds: Sequence[int], *more: str
) -> str:
    """The command that trains `approach` with the setting of `records`, the group `name`.

    `seeds` are consecutive; `more` are further flags. The workdir is next to those of the group.
    """
    like = next((r for r in records if r.approach == approach), records[0])
    experiment = known(like.config.experiment)
    # The setting of a network of other widths is what differs from HAT's (settings.different).
    same = ",same" if any("same" in r.variant or WIDTHS in r.setting for r in records) else ""
    fields = dict(like.setting)
    if experiment != like.config.experiment:
        fields = {"experiment": like.config.experiment} | fields
    if like.config.data.root:
        fields["data.root"] = like.config.data.root
    where = parent_folder(like) / slug(f"{name} {approach}")
    if len(seeds) == 1:
        where = where.with_name(f"{where.name}-seed{seeds[0]}")
    fields |= {"seed": seeds[0]} if seeds[0] else {}
    fields |= {"seeds": len(seeds)} if len(seeds) > 1 else {}
    flags = [f"--config.{k}={v}" for k, v in fields.items()]
    return main(f"baseline.py:{approach},{experiment}{same}", *flags, *more, f"--workdir={where}")


def main(config: str, *more: str) -> str:
    """The command that trains a configuration file of configs/, with further flags."""
    words = ["python", "-m", "hatjax.main", "--config", str(shortest(cli.CONFIGS / config)), *more]
    return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    """A word quoted for the shell, with double quotes where they suffice."""
    plain = shlex.quote(word)
    return plain if plain == word or set(word) & set('"$`\\!') else f'"{word}"'


def parent_folder(record: Record) -> Path:
    """The folder that holds the workdir of a run, or that of its sweep over seeds."""
    where = record.where.parent
    return where.parent if record.where.name.startswith("seed") else where


def consecutive(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds grouped into consecutive ones, which one command trains."""
    each = itertools.groupby(enumerate(sorted(set(seeds))), lambda pair: pair[1] - pair[0])
    return [[seed for _, seed in run] for _, run in each]
