"""The report as one self-contained HTML page."""

import base64
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hatjax.report import tables
from hatjax.report.gallery import Picture
from hatjax.report.groups import Groups
from hatjax.report.missing import Missing
from hatjax.report.names import slug, words
from hatjax.report.numbers import Runs

MARK = "<!-- made by hatjax.report -->"  # identifies the folder of a report


def page(
    groups: Groups,
    found: Runs,
    pictures: Sequence[Picture],
    lacks: Sequence[Missing],
    notes: Sequence[str],
    where: Path,
) -> str:
    """The HTML of the page; `where` is the folder with the PNG files of the pictures."""
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
                "slug": slug(name),
                "setting": words(records[0].setting),
                "by_metric": tables.by_metric(found.of(records)),
                "by_tasks": tables.by_tasks(found.of(records)),
                "pictures": [p for p in pictures if p.group == name and p.kind != "matrix"],
                "matrices": [p for p in pictures if p.group == name and p.kind == "matrix"],
            }
            for name, records in groups.items()
        ],
        overall=[p for p in pictures if not p.group],
        image=lambda p: base64.b64encode((where / f"{p.name}.png").read_bytes()).decode(),
        lacks=lacks,
        notes=notes,
    )


def runs(groups: Groups, found: Runs) -> pd.DataFrame:
    """The table of all runs: their state, and their average accuracy so far."""
    of = {str(r.where): name for name, records in groups.items() for r in records}
    table = found.runs[["workdir", "approach", "seed", "state"]].copy()
    table.insert(1, "experiment", found.runs["workdir"].map(of))
    so_far = found.runs["average accuracy"]
    table["average accuracy so far"] = so_far.map("{:.1%}".format).where(so_far.notna(), "")
    return table
