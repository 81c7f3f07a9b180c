"""The numbers as tables: Markdown to read, LaTeX for the paper.

`found` has the numbers of a group, with the names of tables and figures (Runs.named).
"""

import numpy as np
import pandas as pd

from hatjax.report.groups import Groups, names, shared
from hatjax.report.names import paper
from hatjax.report.numbers import METRICS, Runs, at_end, over_seeds, title

COLUMNS = 10  # of a table of rho, at most


def cells(spreads: pd.DataFrame, metric: str) -> list[str]:
    """A metric as text: mean ± standard deviation; the mean for one seed, "" for none.

    Where only some of the seeds have it, their number follows: "-0.2 ± 0.1 (2 seeds)".
    """
    m = METRICS[metric]

    def cell(mean: float, std: float, n: int, seeds: int) -> str:
        if not n:
            return ""
        # A deviation has no sign.
        spread = "" if np.isnan(std) else f" ± {m.form.format(std).lstrip('+')}"
        some = f" ({n} seed{'s' if n > 1 else ''})" if n < seeds else ""
        return m.form.format(mean) + spread + some

    numbers = m.scale * spreads[[metric, f"{metric} std"]]
    counts = spreads[[f"{metric} seeds", "seeds"]]
    return [
        cell(*values, *n)
        for values, n in zip(numbers.to_numpy(), counts.to_numpy(), strict=True)
    ]


def by_metric(found: Runs) -> pd.DataFrame:
    """Approach x metric after the last task, over finished runs, and the number of seeds.

    Metrics that no run has are left out, except the average accuracy.
    """
    ends = at_end(found.runs)
    there = [m for m in METRICS if m == "average accuracy" or ends[m].notna().any()]
    return pd.DataFrame(
        {"approach": ends["approach"]}
        | {title(m): cells(ends, m) for m in there}
        | {"seeds": ends["seeds"].astype(str)}
    )


def by_tasks(found: Runs) -> pd.DataFrame:
    """Approach x rho over the number of tasks, as in the paper's Table 1; empty without rho."""
    total = found.runs["tasks"].max()
    some = np.unique(np.linspace(2, total, min(COLUMNS, max(total - 1, 0))).astype(int))
    over = over_seeds(found.tasks[found.tasks["tasks learned"].isin(some)])
    if over["rho"].isna().all():
        return pd.DataFrame()
    table = over.assign(rho=cells(over, "rho")).pivot(
        index="approach", columns="tasks learned", values="rho"
    )
    table = table.reindex(index=found.runs["approach"].unique(), columns=some).fillna("")
    return table.add_prefix("ρ≤").rename_axis(index="approach", columns=None).reset_index()


def by_class(classes: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on each class of each task, mean ± standard deviation over seeds: class x approach.

    `classes` has the columns task, class, approach, accuracy, and a row for each class of a run.
    """
    keys = ["task", "class", "approach"]
    over = (
        (100 * classes.set_index(keys)["accuracy"]).groupby(keys, sort=False).agg(["mean", "std"])
    )
    deviation = over["std"].map("{:.1f}".format)
    text = over["mean"].map("{:.1f}".format)
    text = text.where(over["std"].isna(), text + " ± " + deviation).where(over["mean"].notna(), "")
    table = text.unstack("approach").fillna("")
    rows = text.index.droplevel("approach").unique()
    return table.loc[rows, classes["approach"].unique()].rename_axis(columns=None).reset_index()


def markdown(groups: Groups, found: Runs) -> str:
    """The tables of all groups in Markdown."""
    lines = []
    for name, records in groups.items():
        lines += [f"**{name}**", ""]
        if common := shared(records):
            lines += [f"In place of the defaults: {common}.", ""]
        for make in (by_metric, by_tasks):
            table = make(found.of(records).named(names(records)))
            lines += [*pipes(table), ""] if len(table) else []
    return "\n".join(lines)


def pipes(table: pd.DataFrame) -> list[str]:
    """The lines of a table in Markdown."""
    rows = [table.columns, ["---"] * table.shape[1], *table.to_numpy()]
    return [f"| {' | '.join(row)} |" for row in rows]


def latex(table: pd.DataFrame, comment: str) -> str:
    r"""A tabular for \input with booktabs rules, below a `comment`."""
    head = {c: c.replace("ρ≤", r"$\rho^{\leq ") + "}$" for c in table if c.startswith("ρ≤")}
    table = table.rename(columns=head | {"ρ": r"$\rho$"})
    table["approach"] = table["approach"].map(paper)
    numbers = [c for c in table if c != "approach"]
    style = table.style.hide(axis="index").format_index(escape="latex-math", axis="columns")
    style = style.format(escape="latex", subset=["approach"]).format(math, subset=numbers)
    return (
        f"% {' '.join(comment.split())}\n"
        "% Needs \\usepackage{booktabs}. Mean $\\pm$ standard deviation over seeds.\n"
        + style.to_latex(hrules=True, column_format="l" + "r" * len(numbers))
    )


def math(cell: str) -> str:
    """A number and its deviation in LaTeX; of how many seeds they are stays text."""
    number, *seeds = cell.split(" (")
    return " (".join(["$" + number.replace("±", r"\pm") + "$", *seeds]) if cell else ""
