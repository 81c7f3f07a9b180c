"""A trained model as one uses it: blocks of any size, inside JAX, pickled, class by class."""

import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import hatjax
from hatjax import config, export
from hatjax.analysis import models, which
from hatjax.errors import InputError
from tests import trained
from tests.test_masks import model as untrained


@pytest.fixture(scope="module")
def model(trained_runs):
    return models.load(trained_runs["mlp"])


@pytest.fixture(scope="module")
def x(trained_runs):
    return trained.images("mlp", trained_runs["mlp"].parent)


def test_any_number_of_examples(model, x):
    logits = hatjax.predict(model, x, 1)
    assert isinstance(logits, jax.Array) and logits.shape == (40, 10)
    traces = []

    def counted(*args):
        traces.append(args[2].shape[0])
        return model.approach.predict(*args)

    m = model._replace(approach=model.approach._replace(predict=counted))
    for n in (5, 7, 8, 6, 1, 33, 40, 0):
        got = hatjax.predict(m, x[:n], 1)
        assert got.shape == (n, 10)
        np.testing.assert_allclose(got, logits[:n], rtol=1e-5, atol=1e-5)
    assert traces == [8, 1, 64]
    c = config.from_json(config.to_json(model.config))
    c.eval_batch = 16
    got = hatjax.predict(m._replace(config=c), x, 1)
    np.testing.assert_allclose(got, logits, rtol=1e-5, atol=1e-5)
    assert traces == [8, 1, 64, 16]
    small = hatjax.cut(model, 1)
    assert model.apply(model.params, x[:0], 1).shape == (0, 10)
    assert export.predict(small, x[:0]).shape == (0, 10)
    assert export.predict(small, x[:3]).shape == (3, 10)


def test_tasks_are_whole_numbers(model, x):
    want = hatjax.predict(model, x, 2)
    for task in (np.int64(2), np.uint8(2), np.array(2), jnp.int32(2)):
        np.testing.assert_array_equal(hatjax.predict(model, x, task), want)
        assert which.place(model, task) == 2 and hatjax.cut(model, task).task == model.names[2]
    strange = (True, np.True_, jnp.array(True), 1.0, jnp.float32(1), "1", [1], np.array([1]), None)
    uses = (
        lambda t: hatjax.predict(model, x, t),
        lambda t: model.apply({}, x, t),
        lambda t: hatjax.task_masks(model, t),
        lambda t: hatjax.cut(model, t),
    )
    for task in strange:
        for use in uses[task is None :]:  # predict finds the task where None is given
            with pytest.raises(hatjax.InputError, match=r"tasks 0\.\.2: give a whole number, not"):
                use(task)
    for task in (3, -1, np.int8(-1), jnp.int32(3)):
        with pytest.raises(hatjax.InputError, match=rf"^task {task}: the model has the tasks 0..2"):
            hatjax.predict(model, x, task)


@pytest.mark.parametrize("name", ["mlp", "alexnet"])  # with an order of pixels, and without
def test_apply_is_pure(trained_runs, name):
    model = models.load(trained_runs[name])
    x = trained.images(name, trained_runs[name].parent)[:8]
    want, close = hatjax.predict(model, x, 1), dict(rtol=1e-4, atol=1e-4)
    n = want.shape[1]
    apply = jax.jit(model.apply, static_argnums=2)
    np.testing.assert_allclose(apply(model.params, x, 1), want, **close)
    apply = jax.jit(model.apply)  # the task is traced, too
    logits = apply(model.params, x, 1)
    np.testing.assert_allclose(logits[:, :n], want, **close)
    assert np.isneginf(logits[:, n:]).all() and np.isnan(apply(model.params, x, 3)).all()

    def loss(params, x):
        return -jax.nn.log_softmax(model.apply(params, x, 1))[:, 0].sum()

    for_params, for_x = jax.jit(jax.grad(loss, (0, 1)))(model.params, x.astype(np.float32))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(for_params))
    heads = for_params["head"]["bias"].any(axis=1)
    assert for_x.any() and heads.tolist() == [row == model.rows[1] for row in range(3)]


@pytest.mark.parametrize("name", ["pathnet", "progressive"])  # whose memory is read by the task
def test_apply_with_a_memory(name):
    model = pickle.loads(pickle.dumps(untrained(name)))
    x = np.arange(5.0).reshape(5, 1, 1, 1)
    want = hatjax.predict(model, x, 1)
    got = jax.jit(lambda x, task: model.apply(model.params, x, task))(x, 1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_inside_jax(model, x):
    want = hatjax.predict(model, x[:8], 1, probabilities=True)
    shares = jax.jit(lambda x: hatjax.predict(model, x, 1, probabilities=True))(x[:8])
    np.testing.assert_allclose(shares, want, rtol=1e-4, atol=1e-6)
    for use, given, says in (
        (lambda x: model.apply(model.params, x, 1), np.zeros((2, 2)), r"of shape \(2, 2\)"),
        (lambda t: model.apply(model.params, x, t), 1.0, "expected an integer"),
        (lambda x: hatjax.evaluate(model, x, np.zeros(40), 1), x, r"traced.*take model\.apply"),
        (lambda t: hatjax.task_masks(model, t), 1, "the task is traced"),
    ):
        with pytest.raises(hatjax.InputError, match=says):
            jax.jit(use)(given)


def test_pickled(model, x):
    on_device = model._replace(params=jax.tree.map(jnp.asarray, model.params))
    again = pickle.loads(pickle.dumps(on_device))
    np.testing.assert_array_equal(hatjax.predict(again, x, 1), hatjax.predict(model, x, 1))
    assert again.config == model.config and again.names == model.names
    small = hatjax.cut(model, 1)
    again = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(export.predict(again, x), export.predict(small, x))


def test_class_by_class(model, x):
    y = np.arange(40) % 7  # none of the classes 7 to 9
    logits = hatjax.predict(model, x, 0)
    guess = np.argmax(logits, -1)
    counts = hatjax.confusion(model, x, y, 0)
    np.testing.assert_array_equal(counts, confusion_matrix(y, guess, labels=range(10)))
    assert counts.dtype == int and counts.trace() / 40 == hatjax.evaluate(model, x, y, 0)
    each = hatjax.class_accuracy(counts)
    assert each[3] == pytest.approx(np.mean(guess[y == 3] == 3)) and np.isnan(each[7:]).all()
    shares = hatjax.predict(model, x, 0, probabilities=True)
    np.testing.assert_allclose(shares, jax.nn.softmax(logits), rtol=1e-5, atol=1e-7)
    with pytest.raises(hatjax.InputError, match="labels hold 10"):
        hatjax.confusion(model, x, y + 4, 0)


def test_a_task_learned_to_a_loss_of_0_is_learned(trained_runs, tmp_path):
    where = tmp_path / "run"
    shutil.copytree(trained_runs["mlp"], where)
    loss = np.load(where / "loss.npy")
    loss[0] = 0
    np.save(where / "loss.npy", loss)
    assert models.load(where).learned == (True,) * 3


def test_what_is_shown_is_short(model):
    assert repr(model) == "<Model: hat with the network mlp, 3 tasks of 8x8x1 images>"
    assert len(repr(hatjax.cut(model, 0))) < 200
    acc = np.array([[0.5, 0, 0], [0.5, np.nan, 0], [0.25, np.nan, 0.75]])
    result = hatjax.Result(acc, model._replace(names=("<a>", "b", "c")))
    text = repr(result)
    assert len(text) < 250 and "\n" not in text and "50.0% on average" in text
    html = result._repr_html_()
    assert "<td>25.0</td><td></td><td>75.0</td></tr>" in html and "&lt;a&gt;" in html
    assert html.count("<tr>") == 4


@pytest.mark.parametrize("call", [
    lambda m: hatjax.task_masks(m, 0),
    lambda m: hatjax.overlap(m),
    lambda m: hatjax.forget_task(m, 0, jax.random.key(0)),
    lambda m: hatjax.cut(m, 0),
    lambda m: hatjax.infer_task(m, np.zeros((2, 4))),
    lambda m: hatjax.predict(m, np.zeros((2, 4)), 0),
], ids=["masks", "overlap", "forget", "cut", "infer", "predict"])  # fmt: skip
def test_what_is_no_model(call):
    for wrong in (hatjax.Result(np.zeros((1, 1)), None), "results/run"):
        with pytest.raises(InputError, match="is given where a model is expected"):
            call(wrong)


def test_what_is_no_exported_network():
    with pytest.raises(InputError, match="a str is given where an exported network is expected"):
        export.predict("run/export/task0", np.zeros((2, 4)))
