"""Images that stay on the host: the same bits as in memory, or a refusal."""

import jax
import numpy as np
import pytest

import hatjax
from hatjax import config, plans
from hatjax.data import stream
from hatjax.errors import Diverged, InputError, Interrupted
from hatjax.experiment import checkpoint, description, failure, loop, run
from hatjax.training import replicas
from tests.same import all_the_same, same


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    """Stretches of two or three batches."""
    monkeypatch.setattr(stream, "BYTES", 3000)


def small(approach: str = "hat", **fields):
    """Two tasks of 85 training images, whose last batch has 5; validation's, of 15, has 7."""
    c = config.make("digits", approach)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 2, 3, (8, 6), 100
    c.batch, c.eval_batch = 16, 8
    c.update_from_flattened_dict(fields)
    return c


def both(folder, c, **fields) -> None:
    """Trains `c` in memory and streamed."""
    for where in ("no", "yes"):
        c.data.stream = where
        run.run_sweep(folder / where, plans.replicas(c), quiet=True)


@pytest.mark.parametrize(
    "approach, fields",
    [
        ("hat", {"network.dropout": (0.2, 0.5)}),
        ("sgd", {"tasks.kind": "split", "data.augment": ("crop", "flip")}),
        ("sgd", {"batch": 1000, "eval_batch": 1000, "fidelity": "code"}),
        ("joint", {"epochs": 2}),
    ],
)
def test_the_same_bits(approach, fields, tmp_path):
    both(tmp_path, small(approach, **fields))
    same(tmp_path / "no", tmp_path / "yes")


def test_the_same_bits_of_several_runs(tmp_path):
    """One of which stops early."""
    c = small(lr_patience=1, epochs=4, lr_min=0.04)
    c.seeds, c.grid = 2, "lr=0.05,0.2"
    both(tmp_path, c)
    all_the_same(tmp_path / "no", tmp_path / "yes")


def test_a_run_goes_on_streamed(tmp_path, monkeypatch):
    """Begun in memory, paused within a task, and ended with streamed images."""
    c = small(**{"checkpoint.epochs": 1})
    run.run_sweep(tmp_path / "whole", {"": c}, quiet=True)
    asked = iter([False, True])
    with pytest.raises(Interrupted):
        run.run_sweep(tmp_path / "w", {"": c}, quiet=True, stopping=lambda: next(asked))
    c.data.stream = "yes"
    run.run_sweep(tmp_path / "w", {"": c}, quiet=True)
    same(tmp_path / "whole", tmp_path / "w")
