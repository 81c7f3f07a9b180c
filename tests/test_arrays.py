"""The library as one imports it: tasks as arrays, and what is done with what was learned."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import hatjax
from hatjax import run

TINY = dict(epochs=3, network={"widths": (12, 12)}, quiet=True)


def arrays(n: int = 60, shape: tuple = (4, 4), classes: int = 3, kind=np.uint8):
    """Images whose brightness is their class."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % classes
    x = rng.integers(0, 60, (n, *shape)) + (60 * y).reshape(-1, *[1] * len(shape))
    return x.astype(kind), y, x[:12].astype(kind), y[:12]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    where = tmp_path_factory.mktemp("fit") / "run"
    sets = [arrays(), arrays(90, classes=2)]
    return hatjax.fit(sets, workdir=where, seed=3, **TINY, **{"approach.s_max": 100.0}), sets, where


def test_what_is_learned_is_used(result, capsys):
    got, sets, where = result
    assert not capsys.readouterr().out
    acc, model = got
    for u, (_, _, x, y) in enumerate(sets):
        assert hatjax.evaluate(model, x, y, u) == pytest.approx(acc[1, u], abs=1e-6)
        assert hatjax.predict(model, x, u).shape == (12, 3 - u)
    assert {k: a.shape for k, a in hatjax.task_masks(model, 1).items()} == {
        "fc1": (12,), "fc2": (12,)
    }  # fmt: skip
    np.testing.assert_allclose(np.diag(hatjax.overlap(model)), 1, atol=1e-6)
    small = hatjax.cut(model, 1)
    full = hatjax.predict(model, sets[1][2], 1)
    from hatjax import export

    np.testing.assert_allclose(export.predict(small, sets[1][2]), full, atol=1e-4)
    assert hatjax.forget_task(model, 0, jax.random.key(0)).learned == (False, True)


def test_the_workdir_is_a_run(result):
    got, _, where = result
    model = hatjax.load(where)
    assert model.config.approach.s_max == 100.0
    assert model.config.experiment == "arrays" and model.config.seed == 3
    jax.tree.map(np.testing.assert_array_equal, model.params, got.model.params)
    assert "average accuracy" in run.recall(where)
    done = subprocess.run(
        [sys.executable, "-c", "import hatjax, sys; assert 'jax' not in sys.modules; hatjax.fit"],
        check=False,
    )
    assert done.returncode == 0
    with pytest.raises(hatjax.InputError, match="hatjax.fit again"):
        run.prepare(model.config)


@pytest.mark.parametrize(
    "shape, kind, approach",
    [((16,), np.float64, "hat"), ((4, 4, 3), np.float32, "sgd"), ((16,), bool, "ewc")],
)
def test_feature_vectors_and_other_numbers(shape, kind, approach):
    sets = [arrays(shape=shape, kind=kind, classes=2), arrays(shape=shape, kind=kind)]
    acc, model = hatjax.fit(sets, approach, **TINY)
    assert acc.shape == (2, 2) and (acc[1] > 0).all()
    _, _, x, y = sets[1]
    assert hatjax.evaluate(model, x, y, 1) == pytest.approx(acc[1, 1], abs=1e-6)


X, Y, X_TEST, Y_TEST = arrays()


@pytest.mark.parametrize(
    "sets, says",
    [
        ([], "tasks.count = 0"),
        ([(X, Y)], r"task 0: 2 arrays: expected \(x_train"),
        ([(X, Y, X_TEST, Y_TEST), (X[:, :3], Y, X_TEST[:, :3], Y_TEST)], "'task 1' are .3, 4, 1."),
        ([(X, Y + 1, X_TEST, Y_TEST)], "task 0: y_train holds the labels 1, 2, 3: expected 0"),
        ([(X, Y - 1, X_TEST, Y_TEST)], "y_train holds the labels -1"),
        ([(X, Y * 1.0, X_TEST, Y_TEST)], "y_train is float64"),
        ([(X, Y[:-1], X_TEST, Y_TEST)], "60 images but 59 labels in train"),
        ([(X, Y, X_TEST[:0], Y_TEST[:0])], "x_test of shape .* is empty"),
        ([(X * np.nan, Y, X_TEST, Y_TEST)], "x_train holds numbers that are not finite"),
        ([(X.astype(str), Y, X_TEST, Y_TEST)], "task 0: x_train is <U"),
        ([(X, Y, X_TEST, Y_TEST + 1)], "y_test holds the labels 3, which"),
        ([(X[:3], Y[:3], X_TEST, Y_TEST)], "has no valid images"),
    ],
)
def test_arrays_that_cannot_be_used(sets, says, tmp_path):
    with pytest.raises(hatjax.InputError, match=says):
        hatjax.fit(sets, workdir=tmp_path / "w", **TINY)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"epoch": 3}, "unknown setting 'epoch'. Did you mean 'epochs'"),
        ({"network": {"width": 3}}, "Did you mean 'network.widths'"),
        ({"epochs": "many"}, "epochs|many"),
        ({"epochs": 0}, "config.epochs = 0"),
        ({"approach.c": -1.0}, "config.approach.c = -1.0"),
        ({"network": 3}, "unknown setting 'network'"),
        ({"approach": "hta"}, "Did you mean 'hat'"),
        ({"seeds": 3}, "call it for each seed"),
    ],
)
def test_settings_that_cannot_be_used(settings, says):
    with pytest.raises(hatjax.InputError, match=says):
        hatjax.fit([arrays()], **settings)


def test_names():
    assert {*hatjax.__all__} <= {*dir(hatjax)}
    assert all(hasattr(hatjax, name) for name in hatjax.__all__)
    assert not hasattr(hatjax, "nothing")
    with pytest.raises(hatjax.InputError, match="expected a label for each image"):
        hatjax.evaluate(None, X, Y[:3], 0)
