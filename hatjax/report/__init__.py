"""From runs to a paper: the results of any number of runs as frames, tables, figures and a page.

    runs, epochs, tasks = load("results")    pandas frames
    python -m hatjax.report results          a report: a folder with

    index.html              everything together, and what is missing
    tables.md               approach x metric, and rho over the number of tasks, by experiment
    tables/NAME.tex         the same for LaTeX (NAME-rho.tex: rho)
    metrics.csv             the same with 95 % intervals
    after_every_task.csv    every metric of every run after every task
    over_seeds.csv          the same over the seeds
    figures/*.pdf, *.png    the paper's figures and the accuracy matrices
    per_class.csv           with --confusion: the accuracy on every class, of every run
    confusion.csv           with --confusion: which classes are taken for which

Numbers and figures whose runs are missing are left out (rho needs runs of random and joint). The
report and the command list them, with the commands that train these runs. So a study can be
inspected before its slowest runs, such as joint training, have finished.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatjax.report.numbers import Runs


def load(*paths: str | Path) -> "Runs":
    """The runs in and below folders as pandas frames: Runs(runs, epochs, tasks).

    docs/report.md lists the columns. Damaged runs and duplicates are left out, with a warning;
    another warns where seeds of one setting were trained by different versions.
    InputError for a folder without runs, or if none can be read.
    """
    # Imported here to keep --help fast.
    from hatjax.report import groups, numbers, read, versions

    records, notes = read.read_all(paths)
    found, twice = groups.groups(records)
    for note in [*notes, *twice, *versions.mixtures(found)]:
        warnings.warn(note, stacklevel=2)
    return numbers.all_values(r for runs in found.values() for r in runs)
