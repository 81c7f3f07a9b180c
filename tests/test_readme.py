"""README's example of an approach, as it stands there."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from hatjax import approaches, config, results, run

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def pull(monkeypatch):
    """The approach of README, listed as README says."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (code,) = [b for b in blocks if "def make(config, network)" in b]
    names: dict = {}
    exec(code, names)
    monkeypatch.setitem(approaches.APPROACHES, "pull", names["make"])
    numbers = dict(gated=False, clip=100.0, pull=0.01)
    assert f"dict({', '.join(f'{k}={v}' for k, v in numbers.items())})" in README.read_text()
    monkeypatch.setitem(config.APPROACHES, "pull", numbers)


def test_the_approach_of_the_readme(pull, tmp_path):
    kept = {}
    for strength in (0.0, 0.5):
        c = config.make("digits", "pull")
        c.approach.pull, c.tasks.count, c.epochs, c.network.widths = strength, 2, 8, (32, 32)
        where = tmp_path / str(strength)
        acc = run.run(c, where)
        assert (acc[np.tril_indices(2)] > 0.1).all()
        model = results.load(where)
        jax.tree.map(np.testing.assert_array_equal, model.memory["old"], model.params["trunk"])
        kept[strength] = acc[1, 0] - acc[0, 0]
    assert kept[0.5] > kept[0.0]  # it forgets less
