"""The numbers as tables: Markdown to read, LaTeX for the paper, CSV for whatever else."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

import numpy as np

from hatjax.report.groups import Group
from hatjax.report.names import paper, words
from hatjax.report.numbers import METRICS, Spread, Values, after, at_end, tasks, title

COLUMNS = 10  # so many numbers of tasks fit a table of rho

Cells = tuple[list[str], list[list[str]]]  # the head and the rows of a table


def number(spread: Spread | None, scale: float, form: str) -> str:
    """Mean and, of several seeds, standard deviation."""
    if spread is None:
        return ""
    mean = form.format(scale * spread.mean)
    if spread.deviation is None:
        return mean
    return f"{mean} ± {form.format(scale * spread.deviation).lstrip('+')}"


def by_metric(group: Group, found: Values) -> Cells:
    """Approach x metric after the last task, and how many seeds are finished.

    Metrics that no run of the group has are left out.
    """
    columns = {m: [at_end(line, found, m) for line in group.lines] for m in METRICS}
    there = [m for m in METRICS if m == "average accuracy" or any(columns[m])]
    rows = [
        [
            line.label,
            *(number(columns[m][i], METRICS[m].scale, METRICS[m].form) for m in there),
            str(sum(record.finished for record in line.records)),
        ]
        for i, line in enumerate(group.lines)
    ]
    return ["approach", *map(title, there), "seeds"], rows


def by_tasks(group: Group, found: Values) -> Cells:
    """Approach x rho after so many tasks, as in the paper's Table 1; no rows without rho."""
    total = tasks(group.records)
    some = np.unique(np.linspace(2, total, min(COLUMNS, max(total - 1, 0))).astype(int))
    m = METRICS["rho"]
    rows = [
        [line.label, *(number(after(line, found, "rho", t), m.scale, m.form) for t in some)]
        for line in group.lines
    ]
    return ["approach", *(f"rho≤{t}" for t in some)], rows if any(any(r[1:]) for r in rows) else []


def markdown(groups: Sequence[Group], found: Values) -> str:
    """All tables in Markdown: mean, and standard deviation where there are several seeds."""
    lines = []
    for group in groups:
        lines += [f"**{group.name}**", "", *pipes(*by_metric(group, found)), ""]
        head, rows = by_tasks(group, found)
        if rows:
            lines += [*pipes(head, rows), ""]
    return "\n".join(lines)


def pipes(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def latex(head: Sequence[str], rows: Iterable[Sequence[str]], says: str) -> str:
    r"""A tabular for \input, with rules of the package booktabs; `says` is a comment above it."""
    body = [" & ".join(map(tex, row)) + r" \\" for row in rows]
    return "\n".join([
        f"% {says}",
        r"% Needs \usepackage{booktabs}. Mean $\pm$ standard deviation over seeds.",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(map(tex, head)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ])  # fmt: skip


def tex(cell: str) -> str:
    """A cell in LaTeX: numbers in math, an approach by its name in the paper, the rest escaped."""
    if re.fullmatch(r"[+-]?[\d.]+( ± [\d.]+)?|nan", cell):
        return f"${cell.replace('±', chr(92) + 'pm')}$"
    if m := re.fullmatch(r"rho(≤(\d+))?", cell):
        return rf"$\rho^{{\leq {m[2]}}}$" if m[1] else r"$\rho$"
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in paper(cell))


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV (RFC 4180 but for the line ends); None is an empty field."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([head, *rows])
    return file.getvalue()


def spread_fields(spread: Spread | None) -> list[float | None]:
    """Mean, standard deviation, lower and upper end of the 95 % interval."""
    if spread is None:
        return [None] * 4
    return [spread.mean, spread.deviation, *(spread.interval or (None, None))]


def identity(group: Group) -> list[str]:
    return [group.experiment, words(group.setting)]


HEAD = ["experiment", "setting", "approach"]
SPREADS = [f"{m}{part}" for m in METRICS for part in ("", " std", " low", " high")]


def metrics_csv(groups: Sequence[Group], found: Values) -> str:
    """Approach x metric after the last task; accuracies are shares 0..1."""
    rows = []
    for group in groups:
        for line in group.lines:
            ends = [spread_fields(at_end(line, found, m)) for m in METRICS]
            seeds = sum(r.finished for r in line.records)
            rows.append([*identity(group), line.label, seeds, *sum(ends, [])])
    return csv_text([*HEAD, "seeds", *SPREADS], rows)


def after_every_task_csv(groups: Sequence[Group], found: Values) -> str:
    """Every metric after every task, a row for each run and task."""
    rows = []
    for group in groups:
        for line in group.lines:
            for record in line.records:
                curves = found[record.where]
                for t, task in enumerate(record.names[: len(record.acc)]):
                    there = [
                        curves[m][t] if t < len(curves.get(m, ())) else np.nan for m in METRICS
                    ]
                    numbers = [None if np.isnan(v) else v for v in there]
                    rows.append(
                        [*identity(group), line.label, record.config.seed, t + 1, task, *numbers]
                    )
    return csv_text([*HEAD, "seed", "tasks learned", "task", *METRICS], rows)


def over_seeds_csv(groups: Sequence[Group], found: Values) -> str:
    """Every metric after every task over the seeds that are so far."""
    rows = []
    for group in groups:
        for line in group.lines:
            for t in range(1, max(len(r.acc) for r in line.records) + 1):
                each = [spread_fields(after(line, found, m, t)) for m in METRICS]
                seeds = sum(len(r.acc) >= t for r in line.records)
                rows.append([*identity(group), line.label, t, seeds, *sum(each, [])])
    return csv_text([*HEAD, "tasks learned", "seeds", *SPREADS], rows)
