"""The report as one page of HTML that needs nothing beside it."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hatjax.report import tables
from hatjax.report.gallery import Picture
from hatjax.report.groups import Group
from hatjax.report.missing import Missing
from hatjax.report.names import slug, words
from hatjax.report.numbers import Values

MARK = "<!-- made by hatjax.report -->"  # tells its folder from others

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
nav a { margin-right: 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; text-align: right; vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child, .left td { text-align: left; }
thead th { border-bottom: 2px solid; } tbody tr:nth-child(even) { background: #8881; }
.figures { display: grid; gap: 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; } figcaption { font-size: .85rem; overflow-wrap: anywhere; }
img { display: block; width: 100%; height: auto; background: white; border-radius: 4px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8882; padding: .5rem;
  margin: .3rem 0; font-size: .8rem; }
summary { cursor: pointer; font-weight: bold; margin: 1rem 0; }
.small { font-size: .85rem; }
"""


def page(
    groups: Sequence[Group],
    found: Values,
    pictures: Sequence[Picture],
    lacks: Sequence[Missing],
    notes: Sequence[str],
    where: Path,
) -> str:
    """The page; the pictures are taken from their PNG in the folder `where`."""
    heads = {group.name: f"group-{i}" for i, group in enumerate(groups)}
    links = [("runs", "Runs"), *((anchor, name) for name, anchor in heads.items())]
    overall = [p for p in pictures if not p.group]
    links += [("all", "All experiments")] if overall else []
    links += [("missing", "What is missing")]
    body = [
        "<h1>hatjax: report</h1>",
        "<nav>" + " ".join(f'<a href="#{a}">{escape(n)}</a>' for a, n in links) + "</nav>",
        *runs(groups, found),
    ]
    for group in groups:
        mine = [p for p in pictures if p.group == group.name]
        body += of_group(group, heads[group.name], found, mine, where)
    if overall:
        body += ['<h2 id="all">All experiments</h2>', *figures(overall, where)]
    body += missing(lacks, notes)
    text = "\n".join(body)
    return (
        f'<!DOCTYPE html>\n{MARK}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>hatjax: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{text}\n"
        "</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead>{row(head, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def runs(groups: Sequence[Group], found: Values) -> list[str]:
    """All runs, how they stand and how good they are so far."""
    rows = []
    for group in groups:
        for line in group.lines:
            for r in line.records:
                accuracy = found[r.where]["average accuracy"]
                last = f"{accuracy[-1]:.1%}" if len(accuracy) else ""
                rows.append(
                    [str(r.where), group.name, line.label, str(r.config.seed), r.state, last]
                )
    done = sum(r.finished for group in groups for r in group.records)
    head = ["workdir", "experiment", "approach", "seed", "state", "average accuracy so far"]
    return [
        '<h2 id="runs">Runs</h2>',
        f"<details{' open' if len(rows) <= 20 else ''}><summary>{len(rows)} runs, {done} finished"
        f"</summary>{table(head, rows, 'left')}</details>",
    ]


def of_group(
    group: Group, anchor: str, found: Values, pictures: Sequence[Picture], where: Path
) -> list[str]:
    """Tables and figures of the runs that are compared with each other."""
    body = [f'<h2 id="{anchor}">{escape(group.name)}</h2>']
    if group.setting:
        body.append(f"<p>Otherwise than usual: {escape(words(group.setting))}.</p>")
    body.append(table(*tables.by_metric(group, found)))
    head, rows = tables.by_tasks(group, found)
    if rows:
        body += ["<h3>Forgetting ratio after so many tasks</h3>", table(head, rows)]
    body.append(
        '<p class="small">After the last task, of finished runs: mean ± standard deviation over '
        f"seeds. In LaTeX: tables/{slug(group.name)}.tex; with 95 % intervals: "
        "metrics.csv; after every task: after_every_task.csv and over_seeds.csv.</p>"
    )
    body += figures([p for p in pictures if p.kind != "matrix"], where)
    matrices = [p for p in pictures if p.kind == "matrix"]
    if matrices:
        body.append(
            f"<details{' open' if len(matrices) <= 6 else ''}><summary>Accuracy matrix of each "
            f"run ({len(matrices)})</summary>"
        )
        body += [*figures(matrices, where), "</details>"]
    return body


def figures(pictures: Sequence[Picture], where: Path) -> list[str]:
    """Pictures, with the image inside."""
    body = ['<div class="figures">'] if pictures else []
    for p in pictures:
        data = base64.b64encode((where / f"{p.name}.png").read_bytes()).decode()
        body.append(
            f'<figure><img loading="lazy" alt="{escape(f"{p.title}: {p.caption}")}" '
            f'src="data:image/png;base64,{data}"><figcaption><b>{escape(p.title)}.</b> '
            f"{escape(p.caption)} <i>figures/{p.name}.pdf</i></figcaption></figure>"
        )
    return [*body, "</div>"] if pictures else []


def missing(lacks: Sequence[Missing], notes: Sequence[str]) -> list[str]:
    """What is not in the report, and how it is made."""
    body = ['<h2 id="missing">What is missing</h2>', "<ul>"]
    body += [f"<li>{escape(note)}</li>" for note in notes]
    for m in lacks:
        commands = "".join(f"<pre>{escape(c)}</pre>" for c in m.commands)
        body.append(f"<li>{escape(m.what)}{commands}</li>")
    if not notes and not lacks:
        body.append("<li>Nothing.</li>")
    return [*body, "</ul>"]
