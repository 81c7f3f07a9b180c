"""Batches and sets of any size: one example, a batch too many, a batch beyond the data."""

import numpy as np
import pytest

import hatjax
from hatjax import config
from hatjax.data import feed
from hatjax.experiment import run


def small(**changes):
    c = config.make("digits", "hat")
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 2, 2, (8, 6), 100
    c.update(changes)
    return c


def test_a_batch_beyond_the_data_is_all_of_them(tmp_path):
    """It is no larger in memory either, and its numbers are those of a batch of just that size."""
    numbers = []
    for size in (85, 10**6):  # 85 are trained on, 15 held out, 359 for testing
        c = small(batch=size, eval_batch=max(size, 359))
        sequence, _ = run.prepare(c)
        lengths = [feed.capacity(sequence, k, size) for k in ("train", "valid")]
        assert lengths == [85, 15]
        run.run_sweep(tmp_path / str(size), {"": c}, quiet=True)
        numbers.append((tmp_path / str(size) / "metrics.jsonl").read_bytes())
    assert numbers[0] == numbers[1]


@pytest.fixture(scope="module")
def three():
    """Tasks of 64, 65 and 66 examples, to train on and to test; and what learned them."""
    sets = []
    for n in (64, 65, 66):
        y = np.arange(n) % 4
        x = 3 * np.eye(4, dtype=np.float32)[y]
        sets.append((x, y, x, y))
    how = dict(epochs=12, batch=8, eval_batch=64, lr=0.2, lr_patience=12)
    net = {"widths": (24,), "dropout": 0.0}
    return sets, hatjax.fit(sets, "sgd_restart", quiet=True, network=net, **how)


def test_any_number_of_examples(three):
    """The last batches hold one example, two, or are full; none is lost, none counts twice."""
    sets, result = three
    assert np.diag(result.accuracy).tolist() == [1.0, 1.0, 1.0]
    x, y, *_ = sets[2]
    for n in (1, 2, 64, 65, 66):
        assert hatjax.evaluate(result.model, x[:n], y[:n], 2) == 1.0
        wrong = np.where(np.arange(n) == n - 1, (y[:n] + 1) % 4, y[:n])
        assert hatjax.evaluate(result.model, x[:n], wrong, 2) == pytest.approx(1 - 1 / n)


def test_one_example_and_the_last_class(three):
    """A single example has the logits that it has among others; the last class is like the rest."""
    sets, result = three
    x, y, *_ = sets[2]
    logits = hatjax.predict(result.model, x, 2)
    assert np.argmax(logits[y == 3], axis=1).tolist() == [3] * (y == 3).sum()
    one = hatjax.predict(result.model, x[-1:], 2)
    np.testing.assert_allclose(one, logits[-1:], rtol=1e-5)
