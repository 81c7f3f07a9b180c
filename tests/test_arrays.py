"""The library as one imports it: tasks as arrays, and what is done with what was learned."""

import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

import hatjax
from hatjax import config, export
from hatjax.analysis import models, savings
from hatjax.experiment import fit as fitting
from hatjax.experiment import run

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
    acc, model = hatjax.fit(iter(sets), approach, **TINY)  # they may come one by one
    assert acc.shape == (2, 2) and (acc[1] > 0).all()
    _, _, x, y = sets[1]
    assert hatjax.evaluate(model, x, y, 1) == pytest.approx(acc[1, 1], abs=1e-6)


X, Y, X_TEST, Y_TEST = arrays()


@pytest.mark.parametrize(
    "sets, says",
    [
        ([], "no tasks: give at least one"),
        (iter(()), "no tasks"),
        (3, "the sets are a int: expected a list"),
        ((X, Y, X_TEST, Y_TEST), r"task 0: a ndarray: expected .*a list of one: \[\(x_train"),
        ([(X, Y)], r"task 0: 2 arrays: expected \(x_train"),
        (
            [(X, Y, X_TEST, Y_TEST), (X[:, :3], Y, X_TEST[:, :3], Y_TEST)],
            "task 1: examples of shape .3, 4, 1., but those of task 0 have .4, 4, 1.",
        ),
        ([(X / 255, Y, X_TEST, Y_TEST)], "task 0: of x_train and x_test one is uint8"),
        ([(X * 1e300, Y, X_TEST * 1.0, Y_TEST)], "x_train holds numbers beyond 1e.38"),
        ([([[1, 2], [3]], Y, X_TEST, Y_TEST)], "task 0: x_train: expected an array of numbers"),
        ([(iter(X), Y, X_TEST, Y_TEST)], "task 0: x_train: .* got a .*iterator: give .*list.x."),
        ([(X, iter(Y), X_TEST, Y_TEST)], "task 0: y_train: expected an array of labels, got a "),
        ([(X[0, 0], Y, X_TEST, Y_TEST)], "x_train is of shape .4,.: expected images"),
        ([(X, Y + 1, X_TEST, Y_TEST)], r"y_test holds the labels 0, .* expected the labels 1\.\.3"),
        ([(X, Y - 1, X_TEST, Y_TEST)], "y_train holds the labels -1"),
        ([(X, Y * 0.5, X_TEST, Y_TEST)], "y_train is float64 .* hold 0.5"),
        ([(X, Y[:-1], X_TEST, Y_TEST)], "60 images but 59 labels in train"),
        ([(X, Y, X_TEST[:0], Y_TEST[:0])], "x_test of shape .* is empty"),
        ([(X * np.nan, Y, X_TEST, Y_TEST)], "x_train holds numbers that are not finite"),
        ([(np.ma.masked_equal(X, X[0, 0, 0]), Y, X_TEST, Y_TEST)], "x_train: .* a masked array"),
        ([(X, np.ma.masked_equal(Y, 1), X_TEST, Y_TEST)], "y_train: .* a masked array: leave out"),
        ([(X.astype(str), Y, X_TEST, Y_TEST)], "task 0: x_train is <U"),
        ([(X, Y, X_TEST, Y_TEST + 1)], "y_test holds the labels 3, which"),
        ([(X[:3], Y[:3], X_TEST, Y_TEST)], "no valid images: .*, or change tasks.valid or data"),
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
        ({"epochs": "many"}, "setting epochs = 'many': expected a whole number, as 40"),
        ({"epochs": 0}, "^epochs = 0"),
        ({"epochs": True}, "epochs = True: expected a whole"),
        ({"epochs": 2.0}, "epochs = 2.0: expected a whole"),
        ({"lr": None}, "lr = None: expected a number"),
        ({"network": {"widths": 3}}, "network.widths = 3: expected a tuple"),
        ({"network": {"name": "alexnet", "dropout": 0.5}}, "network.dropout = 0.5: expected a tup"),
        ({"network": {"name": "alexnet"}}, "images of 4x4: alexnet needs .*; use network.name=mlp"),
        ({"network": {"name": "alex"}}, "alexnet"),
        ({"approach.name": "ewc"}, "hatjax.fit.sets, approach"),
        ({"data": {"image": (3, 3, 1)}}, "the arrays tell it"),
        ({"approach": 3}, "approach = 3: expected a name"),
        ({"approach.c": -1.0}, "^approach.c = -1.0"),
        ({"network": 3}, "network = 3: expected a name or a dict.*, or a Flax module"),
        ({"optimizer": optax.sgd(0.1)}, "optimizer = .*: expected a name or a dict"),
        ({"approach": "hta"}, "Did you mean 'hat'"),
        ({"seeds": 3}, "call it for each seed"),
        ({"s_max": 100}, r"Did you mean 'approach.s_max', written as \*\*{'approach.s_max': 100}"),
        ({"approach": "ewc", "lamb": 2.0}, "Did you mean 'approach.lamb'"),
        ({"smax": 100}, "Did you mean 'approach.s_max'"),
        ({"network": {"s_max": 100}}, "Did you mean 'approach.s_max'"),
        ({"widths": (3,)}, r"'network.widths', written as \*\*{'network.widths': \(3,\)"),
        ({"approach": "HAT"}, "unknown approach 'HAT'. Did you mean 'hat'"),
        ({"approach": {"name": "hat"}}, r"expected a name, .*as \*\*{'approach.c': 0.75}"),
        ({"network": "MLP"}, "Did you mean 'mlp'"),
        ({"optimizer": "AdamW"}, "Did you mean 'adamw'"),
        ({"verbose": True}, "Did you mean 'quiet'"),
        ({"learning_rate": 0.1}, "Did you mean 'lr'"),
        ({"checkpoint": 3}, "Expected a dict, as in checkpoint={"),
    ],
)
def test_settings_that_cannot_be_used(settings, says):
    with pytest.raises(hatjax.InputError, match=says):
        hatjax.fit([arrays()], **settings)


def test_known_settings_are_those_that_fit_takes():
    with pytest.raises(hatjax.InputError) as told:
        hatjax.fit([arrays()], nothing=1)
    known = str(told.value).partition("Known: ")[2].partition(";")[0].split(", ")
    assert {"approach", "workdir", "quiet", "overwrite", "epochs", "approach.s_max"} <= {*known}
    assert not {*known} & {*fitting.FIXED, "seeds", "grid", "at_once"}
    usual = config.fields(fitting.configured(1, "hat", {}))
    assert {*known} - {*usual} == {*fitting.ARGUMENTS}
    fitting.configured(1, "hat", {path: usual[path] for path in known if path in usual})


def test_settings_of_numpy_and_whole_numbers():
    widths = [np.int64(12), np.array(8)]
    settings = dict(epochs=np.int32(2), lr=np.float32(0.5), batch=jax.numpy.int32(16))
    config = fitting.configured(
        2, "hat", settings | {"network": {"widths": widths}, "approach": {"s_max": 200}}
    )
    assert (config.epochs, config.lr, config.batch) == (2, 0.5, 16)
    assert config.network.widths == (12, 8) and config.approach.s_max == 200.0
    assert type(config.approach.s_max) is float
    config = fitting.configured(1, "pathnet", {"network.name": "alexnet"})
    assert len(config.network.dropout) == 5 and config.network.modules == 16
    config = fitting.configured(1, "hat", {"network.widths": np.array([3, 4])})
    assert config.network.widths == (3, 4)


def scaled_features(n: int = 200):
    """Two features tell the class, in very different units; one is constant, one counts."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = np.stack([1e-3 * y, 1e6 * rng.normal(size=n), np.full(n, 0.1), np.arange(n)], 1)
    return x, y, x[:40], y[:40]


def test_every_feature_has_its_own_unit(tmp_path):
    x, y, x_test, y_test = scaled_features()
    settings = dict(epochs=20, network={"widths": (16,)}, quiet=True, batch=8)
    settings["approach.c"] = 0.1  # of so few units, 0.75 closes all
    acc, model = hatjax.fit([(x, y, x_test, y_test)], workdir=tmp_path / "run", **settings)
    assert acc[0, 0] > 0.95 and model.image == (1, 1, 4)
    assert model.mean.shape == (1, 4) and model.std[0, 2] == 1
    assert 0 < model.std[0, 0] < 1e-3 < 1e5 < model.std[0, 1]
    assert hatjax.evaluate(hatjax.load(tmp_path / "run"), x_test, y_test, 0) == acc[0, 0]
    small = hatjax.cut(model, 0)
    full = hatjax.predict(model, x_test, 0)
    np.testing.assert_allclose(export.predict(small, x_test), full, atol=1e-4)
    report = savings.compare(model, 0, small, 8)
    assert "random examples" in report["images"]


def test_pixels_of_vectors_are_permuted():
    x, order = np.arange(8.0).reshape(2, 4), np.array([2, 0, 3, 1])
    got = models.normalised(x, (1, 1, 4), np.zeros(4), np.ones(4), order)
    np.testing.assert_array_equal(got.reshape(2, 4), x[:, order])


@pytest.mark.parametrize(
    "x, says",
    [
        (X[0], r"of shape \(4, 4\): the model expects \[n, 4, 4\]"),
        (X[:, :3], r"of shape \(60, 3, 4\)"),
        (X.reshape(60, 16), r"of shape \(60, 16\)"),
        (X.astype(str), "the images is <U3|the images is <U"),
        (X.astype(object), "is object"),
        (np.where(X > 99, np.nan, X), "not finite"),
        (3, r"of shape \(\)"),
        ([[1, 2], [3]], "expected an array of numbers"),
    ],
)
def test_images_that_the_model_does_not_take(result, x, says):
    (_, model), _, _ = result
    with pytest.raises(hatjax.InputError, match=says):
        hatjax.predict(model, x, 0)
    with pytest.raises(hatjax.InputError, match=says):
        export.predict(hatjax.cut(model, 0), x)


@pytest.mark.parametrize(
    "y, task, says",
    [
        (Y + 1, 0, r"labels hold 3: task 0 has the labels 0\.\.2"),
        (Y - 1, 0, "labels hold -1"),
        (Y + 0.5, 0, "labels hold 0.5"),
        (Y, 1, "labels hold 2: task 1"),
        (Y, 2, r"task 2: the model has the tasks 0\.\.1"),
        (Y, "0", "task 0: the model"),
        (Y.astype(str), 0, r"labels hold '0': task 0 has the labels 0\.\.2"),
    ],
)
def test_labels_that_the_task_does_not_have(result, y, task, says):
    (_, model), _, _ = result
    with pytest.raises(hatjax.InputError, match=says):
        hatjax.evaluate(model, X, y, task)


def test_names():
    assert {*hatjax.__all__} <= {*dir(hatjax)}
    assert all(hasattr(hatjax, name) for name in hatjax.__all__)
    assert not hasattr(hatjax, "nothing")
    with pytest.raises(hatjax.InputError, match="expected a label for each image"):
        hatjax.evaluate(None, X, Y[:3], 0)
