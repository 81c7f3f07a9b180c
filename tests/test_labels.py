"""Labels as people have them, the names of classes, and where they are found again."""

import shutil

import numpy as np
import pandas as pd
import pytest

import hatjax
from hatjax import config, data
from hatjax.data import labels
from hatjax.experiment import description
from hatjax.types import About
from hatjax.workdir import results
from tests import raw_files as files

TINY = dict(epochs=3, batch=8, network={"widths": (12,)}, quiet=True)
Y = np.arange(60) % 3
X = np.random.default_rng(0).normal(size=(60, 5)) + 5 * Y[:, None]
WORDS = np.array(["owl", "cat", "dog"])[Y]  # in the order of the alphabet 2, 0, 1
HOT = np.eye(3)[Y]


@pytest.mark.parametrize(
    "y, names, places",
    [
        (Y, None, Y),
        (Y.tolist(), None, Y),
        (Y.astype(np.uint8), None, Y),
        (Y * 1.0, None, Y),
        (Y[:, None], None, Y),
        (Y[:, None] * 1.0, None, Y),
        (HOT, None, Y),
        (HOT.astype(bool), None, Y),
        (Y == 1, None, Y == 1),
        (Y + 1, (1, 2, 3), Y),
        (Y + 10.0, (10, 11, 12), Y),
        (Y[:, None] + 1, (1, 2, 3), Y),
        (WORDS, ("cat", "dog", "owl"), (Y - 1) % 3),
        (WORDS[:, None], ("cat", "dog", "owl"), (Y - 1) % 3),
        (WORDS.astype("S"), ("cat", "dog", "owl"), (Y - 1) % 3),
        (list(WORDS), ("cat", "dog", "owl"), (Y - 1) % 3),
        (pd.Series(WORDS), ("cat", "dog", "owl"), (Y - 1) % 3),
        (pd.Series(WORDS, dtype="category"), ("cat", "dog", "owl"), (Y - 1) % 3),
        (pd.DataFrame({"y": WORDS}), ("cat", "dog", "owl"), (Y - 1) % 3),
        (pd.get_dummies(WORDS), ("cat", "dog", "owl"), (Y - 1) % 3),
        (pd.Series(Y + 1), (1, 2, 3), Y),
        (pd.DataFrame(HOT), None, Y),
        (np.array(Y.tolist(), object), None, Y),
        (((5 * Y) - 1).astype(str), ("-1", "4", "9"), Y),  # any text is a name
    ],
)
def test_what_is_unambiguous_is_taken(y, names, places):
    train, test, found = labels.encoded("here", y, y)
    assert found == names and train.dtype == test.dtype == np.int32
    np.testing.assert_array_equal(train, places)
    np.testing.assert_array_equal(test, places)


@pytest.mark.parametrize(
    "y, y_test, says",
    [
        (2 * Y, Y, "y_train holds the labels 0, 2, 4: expected 0..classes-1 without gaps"),
        (Y - 1, Y, "y_train holds the labels -1, 0, 1"),
        (Y + 0.25, Y, r"y_train is float64 .* hold 0.25 \(60 of 60 rows"),
        (np.where(Y, Y, np.nan), Y, r"hold nan \(20 of 60 rows"),
        (np.where(Y, Y, np.inf), Y, r"hold inf \(20 of 60"),
        (2**70 * Y.astype(object), Y, "40 of 60 rows are no whole numbers"),
        (pd.Series(WORDS).where(Y > 0), WORDS, "y_train holds nan in 20 of 60 rows"),
        ([None, *WORDS[1:]], WORDS, "y_train holds None in 1 of 60 rows"),
        (pd.Series(Y, dtype="Int64").where(Y > 0), Y, r"(<NA> in |hold nan \()20 of 60 rows"),
        (np.array(["a", 1], object), Y, "holds text and numbers"),
        (WORDS, Y, "y_train holds text and y_test numbers: give both in one form"),
        (Y, WORDS, "y_train holds numbers and y_test text"),
        (Y, Y + 1, "y_test holds the labels 3, which y_train does not: expected the labels 0..2"),
        (WORDS, ["eel"], "y_test holds the labels eel, .*: expected the classes cat, dog, owl"),
        (np.eye(3)[Y // 2], Y, "y_test holds the labels 2"),
        (np.eye(3)[2 * (Y // 2)], Y, "labels 0, 2: expected"),  # no example of the second column
        (2 * HOT, Y, r"y_train is float64 of shape \(60, 3\): expected integer labels"),
        (np.ones((60, 2)), Y, r"of shape \(60, 2\)"),
        (Y.reshape(60, 1, 1), Y, r"of shape \(60, 1, 1\)"),
        (Y.astype("M8[s]"), Y, "is datetime64"),
        (Y * 1j, Y, "is complex128"),
        ([[1], [2, 3]], Y, "y_train: expected an array of labels"),
        (3, Y, r"is int64 of shape \(\)"),
    ],
)
def test_what_is_not_is_refused(y, y_test, says):
    with pytest.raises(hatjax.InputError, match=says) as caught:
        labels.encoded("here", y, y_test)
    assert str(caught.value).startswith("here: ") and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Tasks of words, of the numbers 10..12 and of one-hot rows, on the same examples."""
    where = tmp_path_factory.mktemp("labels") / "run"
    sets = [(X, y, X[:30], y[:30]) for y in (WORDS, Y + 10, HOT)]
    return hatjax.fit(sets, "sgd_restart", workdir=where, **TINY | {"epochs": 20}), where


CLASSES = [("cat", "dog", "owl"), (10, 11, 12), (0, 1, 2)]


def test_a_model_knows_its_classes(learned):
    result, where = learned
    for model in (result.model, hatjax.load(where)):
        for task, names in enumerate(CLASSES):
            assert hatjax.classes(model, task) == model.classes(task) == names
    with pytest.raises(hatjax.InputError, match=r"the model has the tasks 0\.\.2"):
        result.model.classes(3)


def test_predictions_by_name(learned):
    model = learned[0].model
    for task, y in enumerate((WORDS, Y + 10, Y)):
        found = hatjax.predict(model, X, task, names=True)
        best = np.argmax(hatjax.predict(model, X, task), -1)
        assert found.shape == (60,) and set(found.tolist()) <= set(CLASSES[task])
        np.testing.assert_array_equal(found, np.array(CLASSES[task])[best])
        assert hatjax.evaluate(model, X, y, task) == np.mean(found == y)
    assert learned[0].accuracy[2, 2] > 0.6  # so that the names are those of the examples
    assert np.mean(hatjax.predict(model, X, 2, names=True) == Y) > 0.6


def test_evaluation_takes_what_training_took(learned):
    model = learned[0].model
    for task, ways in enumerate(
        [
            [WORDS, list(WORDS), pd.Series(WORDS), pd.get_dummies(WORDS), (Y - 1) % 3],
            [Y + 10, Y + 10.0, Y[:, None] + 10],
            [Y, HOT, Y[:, None], Y.astype(np.float32)],
        ]
    ):
        assert len({hatjax.evaluate(model, X, y, task) for y in ways}) == 1
    for task, y, says in [
        (0, np.where(Y, WORDS, "eel"), "labels hold 'eel': task 0 has the classes cat, dog, owl"),
        (0, Y + 1, r"labels hold 3: task 0 has the labels 0\.\.2"),
        (1, Y, r"labels hold 0: task 1 has the labels 10\.\.12"),
        (2, WORDS, r"labels hold 'owl': task 2 has the labels 0\.\.2"),
    ]:
        with pytest.raises(hatjax.InputError, match=says):
            hatjax.evaluate(model, X, y, task)


def test_runs_of_before_have_numbers(learned, tmp_path):
    shutil.copytree(learned[1], tmp_path / "run")
    path = tmp_path / "run" / "tasks.npz"
    arrays = dict(np.load(path))
    del arrays["about"]
    np.savez(path, **arrays)
    model = hatjax.load(tmp_path / "run")
    assert model.about == (About(),) * 3 and model.classes(1) == (0, 1, 2)
    assert hatjax.evaluate(model, X, Y, 1) == hatjax.evaluate(learned[0].model, X, Y + 10, 1)
    assert set(hatjax.predict(model, X, 1, names=True)) <= {0, 1, 2}


@pytest.mark.parametrize(
    "line",
    [
        "", "[", "[]", "{}", "3", "[" * 10**5, '{"classes": 3, "columns": [], "range": null}',
        '{"classes": ["a", "b"], "columns": [], "range": null}',
        '{"classes": ["a", "a", "b"], "columns": [], "range": null}',
        '{"classes": ["a", 1, "b"], "columns": [], "range": null}',
        '{"classes": [[1], 2, 3], "columns": [], "range": null}',
        '{"classes": [], "columns": ["a"], "range": null}',
        '{"classes": [], "columns": [], "range": [0, 1]}',
        '{"classes": [], "columns": [], "range": [0, NaN, 1]}',
        '{"classes": [], "columns": [], "range": [2, 1, 1]}',
    ],
)  # fmt: skip
def test_damaged_names(learned, tmp_path, line):
    arrays = dict(np.load(learned[1] / "tasks.npz"))
    np.savez(tmp_path / "tasks.npz", **arrays | {"about": np.array([line] * 3)})
    with pytest.raises(ValueError):
        results.read_tasks(tmp_path / "tasks.npz")


def test_names_of_a_set_reach_the_tasks(tmp_path):
    """Of a file NAME.npz with `classes`, with labels 1..12, and of labels that are text."""
    raw = files.raw(n=48, side=6, channels=1, classes=12)
    arrays = {k: getattr(raw, k) for k in ("x_train", "y_train", "x_test", "y_test")}
    words = np.array([f"w{i:02}" for i in range(12)])
    shifted = {k: v + k.startswith("y") for k, v in arrays.items()}
    text = {k: words[v] if k.startswith("y") else v for k, v in arrays.items()}
    for found, names in (
        (arrays | {"classes": words}, tuple(words)),
        (text, tuple(words)),
        (shifted, tuple(range(1, 13))),
        (arrays, None),
    ):
        np.savez(tmp_path / "mine.npz", **found)
        assert data.load("mine", tmp_path).names == names
        c = config.make("mnist2", "hat")
        c.data.sets, c.data.root, c.data.image, c.tasks.count = ("mine",), str(tmp_path), (), 4
        text_of = description.describe(c, {"": c}, tmp_path)
        for t, task in enumerate(data.tasks.make(c)):
            own = names and names[3 * t : 3 * t + 3]
            assert task.about.labels == (own or ())
            listed = f"classes 0, 1, ...: {', '.join(map(str, own or ()))}\n"
            assert (listed in text_of) == bool(own)
        c.tasks.kind = "permuted"
        assert [t.about.labels for t in data.tasks.make(c)] == 4 * [names or ()]
        assert description.describe(c, {"": c}, tmp_path).count("classes 0, 1") == bool(names)
