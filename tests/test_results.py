"""The runs kept in docs/results: what the documents say of them is what they say."""

import re
from pathlib import Path

import numpy as np
import pytest

from hatjax import report
from hatjax.analysis import metrics, models
from hatjax.errors import InputError
from hatjax.report import read, write

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def test_the_table_has_the_numbers_of_the_runs():
    records, notes = read.read_all([RESULTS])
    assert not notes and all(r.finished and not r.config.data.root for r in records)
    text = (RESULTS / "README.md").read_text()
    told = re.findall(r"^\| ([\w.-]+)[^|]*\|[^|]*\| ([\d.]+) \| ([+-][\d.]+) \|$", text, re.M)
    assert {name for name, *_ in told} == {r.where.name for r in records}
    acc = {r.where.name: r.acc for r in records}
    for name, average, transfer in told:
        assert 100 * metrics.average_accuracy(acc[name]) == pytest.approx(float(average), abs=0.05)
        found = 100 * metrics.backward_transfer(acc[name])
        assert found == pytest.approx(float(transfer), abs=0.005)


def test_hat_reaches_what_others_report():
    """About 72 % on incremental CIFAR, without forgetting (the first edition had 71.8, -0.1)."""
    runs = report.load(RESULTS / "cifar-half" / "hat-normal-usual").runs
    average, transfer = (100 * runs[k].item() for k in ("average accuracy", "backward transfer"))
    assert average >= 71.8 and transfer >= -0.2


def test_their_report(tmp_path):
    records, notes = read.read_all([RESULTS])
    write.check(tmp_path / "report")
    text, notes, _ = write.write(records, tmp_path / "report", notes, False)
    assert "In place of the defaults: widths=32x64x128x1024x1024; HAT: gate_init=normal." in text
    assert "72.8" in text and not [n for n in notes if "damaged" in n]
    assert list((tmp_path / "report" / "figures").glob("fig5-capacity-*.pdf"))
    assert np.all([(tmp_path / "report" / f).exists() for f in ("index.html", "metrics.csv")])


def test_they_hold_no_model():
    with pytest.raises(InputError, match="hat-normal-exact has no model: give the run that"):
        models.load(RESULTS / "cifar-half" / "hat-normal-exact")
