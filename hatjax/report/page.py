"""The report as one self-contained HTML page."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hatjax.report import tables, versions
from hatjax.report.gallery import Picture
from hatjax.report.groups import Groups, names, shared
from hatjax.report.missing import Missing
from hatjax.report.numbers import Runs
from hatjax.report.read import Record

MARK = "<!-- made by hatjax.report -->"  # identifies the folder of a report


def page(
    groups: Groups,
    files: Mapping[str, str],
    found: Runs,
    classes: pd.DataFrame,
    pictures: Sequence[Picture],
    lacks: Sequence[Missing],
    notes: Sequence[str],
    where: Path,
) -> str:
    """The HTML of the page; `where` is the folder with the PNG files of the pictures.

    `files` has the file name of each group's LaTeX table, without its ending. `classes` has the
    accuracies by class (confusion.frames); no rows if they were not asked for.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return templates.get_template("page.html.jinja").render(
        mark=Markup(MARK),
        runs=runs(groups, found),
        finished=found.runs["finished"].sum(),
        groups=[
            {
                "name": name,
                "file": files[name],
                "setting": shared(records),
                "by_metric": tables.by_metric(found.of(records).named(names(records))),
                "by_tasks": tables.by_tasks(found.of(records).named(names(records))),
                "pictures": [
                    p for p in pictures if p.group == name and p.kind not in ("matrix", "confusion")
                ],
                "matrices": [p for p in pictures if p.group == name and p.kind == "matrix"],
                "confusions": [p for p in pictures if p.group == name and p.kind == "confusion"],
                "by_class": by_class(classes, records),
            }
            for name, records in groups.items()
        ],
        overall=[p for p in pictures if not p.group],
        image=lambda p: base64.b64encode((where / f"{p.name}.png").read_bytes()).decode(),
        lacks=lacks,
        notes=notes,
    )


def by_class(classes: pd.DataFrame, records: Sequence[Record]) -> pd.DataFrame:
    """The table of the accuracies by class of a group."""
    mine = classes[classes["workdir"].isin([str(r.where) for r in records])]
    if mine.empty:
        return mine
    return tables.by_class(mine.assign(approach=mine["approach"].map(names(records))))


def runs(groups: Groups, found: Runs) -> pd.DataFrame:
    """The table of all runs: their state, average accuracy so far, and versions if known."""
    each = [
        found.of(records).named(names(records)).runs.assign(experiment=name)
        for name, records in groups.items()
    ]
    every = pd.concat(each)
    table = every[["workdir", "experiment", "approach", "seed", "state"]].copy()
    so_far = every["average accuracy"]
    table["average accuracy so far"] = so_far.map("{:.1%}".format).where(so_far.notna(), "")
    for k in versions.SHOWN:
        if every[k].notna().any():
            table[k] = every[k].fillna("").map(versions.short)
    return table
