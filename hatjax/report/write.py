"""Write a report: all its files, atomically."""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hatjax.errors import InputError
from hatjax.report import confusion, gallery, numbers, page, tables, versions
from hatjax.report.groups import groups as grouped
from hatjax.report.groups import names, shared
from hatjax.report.missing import Missing, missing
from hatjax.report.names import slug
from hatjax.report.read import Record
from hatjax.workdir.files import write_text


def check(where: Path) -> None:
    """InputError if a report cannot be written to `where`, or would replace something else."""
    index = where / "index.html"
    if where.exists() and not (where.is_dir() and not any(where.iterdir())):
        if not (index.is_file() and page.MARK in index.read_text(errors="replace")[:200]):
            raise InputError(f"{where} holds other things than a report: choose another --out=DIR")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where.parent):
            pass
    except OSError as error:
        raise InputError(
            f"{where} cannot be written ({error.strerror}): choose another with --out=DIR"
        ) from error


def write(
    records: Sequence[Record], where: Path, notes: Sequence[str] = (), confused: bool = False
) -> tuple[str, list[str], list[Missing]]:
    """Write the report of `records` to the folder `where`, replacing an old one.

    `notes` are about runs that could not be read. With `confused`, the report has confusion
    matrices and per-class accuracies, for which the models classify their test images. Returns the
    tables in Markdown, all notes, and what is missing. InputError as in `check`.
    """
    check(where)
    groups, twice = grouped(records)
    every = [r for records in groups.values() for r in records]
    found = numbers.all_values(every)
    part = where.with_name(f".{where.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("figures", "tables"):
        (part / folder).mkdir(parents=True)
    counts, uncounted = confusion.count(every if confused else ())
    pictures, undrawn = gallery.draw(groups, found, counts, part / "figures")
    notes = [*notes, *twice, *versions.mixtures(groups), *undrawn, *uncounted]
    lacks = missing(groups, found, {p.kind for p in pictures})
    text = tables.markdown(groups, found)
    write_text(part / "tables.md", text)
    files: dict[str, str] = {}  # the file name of each group's tables
    for name, records in groups.items():
        mine, common = found.of(records).named(names(records)), shared(records)
        comment = f"{name}; in place of the defaults: {common}" if common else name
        files[name] = slug(name, files.values())
        for kind, make in (("", tables.by_metric), ("-rho", tables.by_tasks)):
            table = make(mine)
            if len(table):
                target = part / "tables" / f"{files[name]}{kind}.tex"
                write_text(target, tables.latex(table, comment))
    frames = {
        "metrics": numbers.at_end(found.runs),
        "after_every_task": found.tasks.drop(columns="workdir"),
        "over_seeds": numbers.over_seeds(found.tasks),
    }
    by_class, by_pair = confusion.frames(counts, found.runs)
    frames |= {"per_class": by_class, "confusion": by_pair} if counts else {}
    for title, frame in frames.items():
        write_text(part / f"{title}.csv", frame.to_csv(index=False, lineterminator="\n"))
    html = page.page(groups, files, found, by_class, pictures, lacks, notes, part / "figures")
    write_text(part / "index.html", html)
    shutil.rmtree(where, ignore_errors=True)
    os.replace(part, where)
    return text, notes, lacks


def print_notes(notes: Sequence[str], lacks: Sequence[Missing]) -> None:
    """Print the notes, and what is missing with the commands for it, on standard error."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for lack in lacks:
        print("\n    ".join([f"missing: {lack.what}", *lack.commands]), file=sys.stderr)
