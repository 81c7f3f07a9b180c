"""From runs to a paper: what any number of workdirs say, as frames, tables, figures and a page.

    runs, epochs, tasks = load("results")    frames of pandas
    python -m hatjax.report results          a report, which is a folder with

    index.html              everything together, and what is missing
    tables.md               approach x metric, and rho after so many tasks, of every experiment
    tables/NAME.tex         the same for LaTeX (NAME-rho.tex: rho)
    metrics.csv             the same with 95 % intervals
    after_every_task.csv    every metric of every run after every task
    over_seeds.csv          the same over the seeds
    figures/*.pdf, *.png    the paper's figures and the accuracy matrices

What needs runs that are not there (rho needs random and joint ones) is left out and told, with the
command that makes them, in the report and to the caller: the other numbers are as good without it,
and a study whose joint runs take longest can be looked at before they are done.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatjax.report.numbers import Runs


def load(*paths: str | Path) -> "Runs":
    """The runs in and below folders as frames of pandas: Runs(runs, epochs, tasks).

    README ("From runs to a paper") lists the columns. A damaged run, and one that is there twice,
    is left out with a warning. InputError for a folder without runs, or if none can be read.
    """
    # Here, since importing JAX and pandas takes seconds and --help does not.
    from hatjax.report import groups, numbers, read

    records, notes = read.read_all(paths)
    found, twice = groups.groups(records)
    for note in [*notes, *twice]:
        warnings.warn(note, stacklevel=2)
    return numbers.all_values(r for runs in found.values() for r in runs)
