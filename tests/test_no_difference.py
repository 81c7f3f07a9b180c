"""What must make no difference to what is learned."""

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

import hatjax
from hatjax import config
from hatjax.analysis import models
from hatjax.data import Raw, npz
from hatjax.experiment import run


def trained(where, approach="sgd", **fields):
    """What a tiny run of two tasks leaves: its model and accuracies."""
    c = config.make("digits", approach)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 2, 2, (8, 6), 100
    c.update_from_flattened_dict({"approach.clip": 1e4} | fields)
    (acc,) = run.run_sweep(where, {"": c}, quiet=True)
    return models.load(where), acc


def equal(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def sgd(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("sgd") / "w")


@pytest.mark.parametrize("approach", ["ewc", "lwf"])
def test_without_their_penalty_they_are_sgd(approach, sgd, tmp_path):
    model, acc = trained(tmp_path / "w", approach, **{"approach.lamb": 0.0})
    equal((model.params, acc), (sgd[0].params, sgd[1]))


def test_fisher_information_does_not_depend_on_the_evaluation_batch(tmp_path):
    """With a schedule that does not look at the evaluation, which rounds in another order."""
    models_ = [
        trained(tmp_path / str(n), "ewc", eval_batch=n, schedule="constant")[0] for n in (4, 500)
    ]
    equal(models_[0].memory, models_[1].memory)
    assert all((f > 0).any() for f in jax.tree.leaves(models_[0].memory["fisher"]))


def test_a_frozen_configuration(sgd, tmp_path):
    c = FrozenConfigDict(sgd[0].config)
    (acc,) = run.run_sweep(tmp_path / "w", {"": c}, quiet=True)
    equal((models.load(tmp_path / "w").params, acc), (sgd[0].params, sgd[1]))


def test_every_task_of_a_shuffled_mixture_has_its_own_head(tmp_path):
    """Sets of different sizes and classes, learned in another order than they are named in."""
    rng, raws = np.random.default_rng(0), {}
    for name, n, classes in (("a", 60, 2), ("b", 90, 4), ("c", 75, 3)):
        y = np.arange(n) % classes
        x = rng.integers(0, 60, (n, 6, 6), np.uint8) + (60 * y[:, None, None]).astype(np.uint8)
        raws[name] = Raw(x, y, x[:30], y[:30])
        npz.write(tmp_path / f"{name}.npz", raws[name])
    c = config.make("mixture", "hat")
    c.data.sets, c.data.image, c.data.root, c.seed = tuple(raws), (), str(tmp_path), 1
    c.network = config.make("digits", "hat").network
    c.network.widths, c.epochs, c.batch, c.approach.c, c.lr = (30,), 12, 8, 0.0, 0.2
    (acc,) = run.run_sweep(tmp_path / "w", {"": c}, quiet=True)
    model = hatjax.load(tmp_path / "w")
    assert sorted(model.names) == [*raws] and [*model.names] != [*raws]
    for t, name in enumerate(model.names):
        raw = raws[name]
        logits = hatjax.predict(model, raw.x_test, t)
        assert logits.shape[1] == raw.classes
        right = float(np.mean(np.argmax(logits, axis=1) == raw.y_test))
        assert acc[-1, t] == pytest.approx(right, abs=1e-6) and right > 1.5 / raw.classes
