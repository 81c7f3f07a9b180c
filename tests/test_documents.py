"""The documents' examples in Python, as they stand there."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from hatjax import config
from hatjax.analysis import models
from hatjax.experiment import run

PAGES = Path(__file__).parents[1] / "docs"


def example(page: str, of: str) -> dict:
    """The names that the page's only example with `of` in it defines."""
    blocks = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(), re.DOTALL)
    (code,) = [b for b in blocks if of in b]
    names: dict = {}
    exec(code, names)
    return names


@pytest.fixture
def pull(monkeypatch):
    """The approach of docs/extending.md, listed as it says."""
    names = example("extending.md", "def make(config, network)")
    monkeypatch.setitem(config.APPROACHES, "pull", names["APPROACH"])


def test_the_approach_of_the_documents(pull, tmp_path):
    kept = {}
    for strength in (0.0, 0.5):
        c = config.make("digits", "pull")
        c.approach.pull, c.tasks.count, c.epochs, c.network.widths = strength, 2, 8, (32, 32)
        where = tmp_path / str(strength)
        acc = run.run(c, where)
        assert (acc[np.tril_indices(2)] > 0.1).all()
        model = models.load(where)
        jax.tree.map(np.testing.assert_array_equal, model.memory["old"], model.params["trunk"])
        kept[strength] = acc[1, 0] - acc[0, 0]
    assert kept[0.5] > kept[0.0]  # it forgets less


def test_arrays_of_the_documents(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = example("python.md", "hatjax.fit(")
    acc = names["result"].accuracy
    assert acc.shape == (2, 2) and (acc[1] > 0.8).all() and acc[1, 0] >= acc[0, 0] - 0.01
    assert names["logits"].shape == (10, 5) and names["share"].shape == (2, 2)
    assert "task 2/2" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_loop_of_ones_own_of_the_documents():
    names = example("networks.md", "hj.init_gates(")
    params, past, tx = names["params"], names["past"], names["tx"]
    x, y = np.random.default_rng(0).normal(size=(8, 64)), np.arange(8)
    opt = tx.init(params)
    with jax.numpy_rank_promotion("allow"):  # as where hatjax is used
        for i in range(3):
            params, opt = names["step"](params, opt, past, x, y, 1, i / 2)
    moved = np.any(params["net"]["head"] != names["net"]["head"], axis=(1, 2))
    assert moved.tolist() == [False, True] + 8 * [False]
    assert set(past) == {"fc1"} and (past["fc1"] > 0).any()
