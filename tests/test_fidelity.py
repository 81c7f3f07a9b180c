"""What the published code does otherwise: a name for each choice, and docs/departures.md."""

import re
from pathlib import Path

from hatjax import config, fidelity

TABLE = Path(__file__).parents[1] / "docs" / "departures.md"


def test_the_table_of_the_readme_has_all_choices():
    table = TABLE.read_text().split("| what | the published code |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)` \|\n", table + "\n")) == set(fidelity.Departures._fields)


def test_the_two_settings_differ_in_every_choice():
    c = config.make("digits", "hat")
    assert all(fidelity.departures(c))
    c.fidelity = "code"
    assert not any(fidelity.departures(c))
