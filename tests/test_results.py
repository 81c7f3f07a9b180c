"""The runs kept in docs/results: what the documents say of them is what they say."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from hatjax import report
from hatjax.analysis import metrics, models
from hatjax.errors import InputError
from hatjax.report import read, write

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def numbers(text: str) -> list[float]:
    """A mean, and its standard deviation if there is one: "72.8 ± 0.6"."""
    return [float(part) for part in text.split("±")]


def test_the_tables_have_the_numbers_of_the_runs():
    records, notes = read.read_all([RESULTS])
    assert not notes and all(r.finished and not r.config.data.root for r in records)
    runs = {}  # folder -> its runs, one for each seed
    for r in records:
        place = r.where.resolve().relative_to(RESULTS.resolve()).parts
        runs.setdefault("/".join(place[:2]), []).append(r)
    told, section = {}, ""
    for line in (RESULTS / "README.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:].partition(":")[0]
        elif len(cells := line.strip("| ").split(" | ")) == 6 and cells[0] != "folder":
            told[f"{section}/{cells[0]}"] = cells[2:]
    assert told.keys() == runs.keys()
    metric = (metrics.average_accuracy, metrics.backward_transfer, lambda acc: np.diag(acc).mean())
    for name, (seeds, *cells) in told.items():
        assert sorted(r.seed for r in runs[name]) == list(range(int(seeds)))
        for cell, of, places in zip(cells, metric, (1, 2, 1), strict=True):
            every = [100 * of(r.acc) for r in runs[name]]
            found = [np.mean(every), *([np.std(every, ddof=1)] if len(every) > 1 else [])]
            close = 0.5001 * 10**-places
            assert numbers(cell) == pytest.approx(found, abs=close), (name, cell)


def test_the_table_of_the_readme_is_one_of_these():
    """Each row of README's results is one of docs/results/README.md, by its numbers."""
    def rows(path: Path) -> list[list[str]]:
        lines = path.read_text().splitlines()
        return [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]

    mine = [cells[1:] for cells in rows(RESULTS.parents[1] / "README.md") if len(cells) == 5]
    mine = [cells for cells in mine if cells[-1].isdigit()]
    whole = [[*cells[3:], cells[2]] for cells in rows(RESULTS / "README.md") if len(cells) == 6]
    assert len(mine) > 5 and all(cells in whole for cells in mine)


@pytest.mark.parametrize("section, column", [("pmnist-100", 1), ("cifar-half", 2)])
def test_the_table_of_methods_has_their_accuracies(section, column):
    text = (RESULTS.parent / "methods.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \| ([^|]*) \|$", text, re.M)
    ours = {row[0]: row[column] for row in rows}
    text = (RESULTS / "README.md").read_text().split(f"## {section}")[1].split("\n## ")[0]
    there = dict(re.findall(r"^\| (\w+) \|[^|]*\|[^|]*\| ([^|]*) \|", text, re.M))
    assert there and {k: v for k, v in ours.items() if v != "-"} == {
        k: v for k, v in there.items() if k in ours
    }


def test_readmes_figure(tmp_path):
    runpy.run_path(str(RESULTS.parent / "figure.py"))["main"](tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10000


def test_hat_reaches_what_others_report():
    """About 72 % on incremental CIFAR, without forgetting (the first edition had 71.8, -0.1)."""
    runs = report.load(RESULTS / "cifar-half" / "hat").runs
    assert 100 * runs["average accuracy"].mean() >= 71.8
    assert 100 * runs["backward transfer"].min() >= -0.2


def test_their_report(tmp_path):
    records, notes = read.read_all([RESULTS])
    write.check(tmp_path / "report")
    text, notes, _ = write.write(records, tmp_path / "report", notes, False)
    assert "In place of the defaults: widths=32x64x128x1024x1024." in text
    assert "72.8 ± 0.6" in text and not [n for n in notes if "damaged" in n]
    assert list((tmp_path / "report" / "figures").glob("fig5-capacity-*.pdf"))
    assert np.all([(tmp_path / "report" / f).exists() for f in ("index.html", "metrics.csv")])


def test_they_hold_no_model():
    with pytest.raises(InputError, match="hat-exact has no model: give the run that"):
        models.load(RESULTS / "cifar-half" / "hat-exact")
