"""Tables with named columns, numbers that are missing, and examples in another unit."""

import numpy as np
import pandas as pd
import pytest

import hatjax
from hatjax import export
from hatjax.data import columns, raw, scale
from tests import trained

TINY = dict(epochs=2, batch=8, network={"widths": (12,)}, quiet=True)
NAMES = ["age", "height", "weight", "pulse"]
Y = np.arange(40) % 2
X = np.random.default_rng(0).normal(size=(40, 4)) * [10, 0.2, 10, 20] + [40, 1.7, 70, 80]
X[:, 0] += 9 * Y
TABLE = pd.DataFrame(X, columns=NAMES)
MIXED = TABLE[["pulse", "age", "weight", "height"]]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """The same task as a table, as one with its columns in another order, and as an array."""
    where = tmp_path_factory.mktemp("tables") / "run"
    other = TABLE.add_prefix("my ")
    sets = [(TABLE, Y, MIXED, Y), (MIXED, Y, TABLE, Y), (X, Y, X, Y), (other, Y, other, Y)]
    return hatjax.fit(sets, workdir=where, **TINY), where


def test_columns_are_found_by_their_names(learned):
    for model in (learned[0].model, hatjax.load(learned[1])):
        assert [a.columns for a in model.about] == [
            tuple(NAMES), tuple(NAMES), (), tuple(f"my {n}" for n in NAMES)
        ]  # fmt: skip
        for task in (0, 1):
            want = np.array(hatjax.predict(model, X, task))  # by place
            np.testing.assert_array_equal(hatjax.predict(model, TABLE, task), want)
            np.testing.assert_array_equal(hatjax.predict(model, MIXED, task), want)
            right = np.mean(want.argmax(1) == Y)
            assert hatjax.evaluate(model, MIXED, Y, task) == right
            assert learned[0].accuracy[task, task] == pytest.approx(right) or task == 0
    small = hatjax.cut(model, 0)
    np.testing.assert_array_equal(export.predict(small, MIXED), export.predict(small, X))


def test_columns_that_training_did_not_have(learned):
    model = learned[0].model
    for table, says in [
        (TABLE[NAMES[:3]], "the table lacks the columns 'pulse': give the columns of training"),
        (TABLE.assign(label=Y), "has the columns 'label', which training did not have"),
        (TABLE.rename(columns={"age": "Age"}), "lacks the columns 'age' and has the columns 'Age'"),
    ]:
        with pytest.raises(hatjax.InputError, match=says):
            hatjax.predict(model, table, 0)
        with pytest.raises(hatjax.InputError, match=says):
            hatjax.evaluate(model, table, Y, 0)
        with pytest.raises(hatjax.InputError, match=f"task 0: x_test: .*{says}"):
            hatjax.fit([(TABLE, Y, table, Y)], **TINY)


def test_a_saved_network_knows_its_columns(learned, tmp_path):
    small = hatjax.cut(learned[0].model, 0)
    export.save(tmp_path, small, {})
    again = export.load(tmp_path)
    assert again.about == small.about == learned[0].model.about[0]
    np.testing.assert_array_equal(export.predict(again, MIXED), export.predict(small, X))
    with pytest.raises(hatjax.InputError, match="lacks the columns 'pulse'"):
        export.predict(again, TABLE[NAMES[:3]])
    with pytest.raises(hatjax.InputError, match="numbers from"):
        export.predict(again, X * 1000)


@pytest.mark.parametrize(
    "table, says",
    [
        (TABLE.assign(city="Rome"), "column 'city' .* holds 'Rome' in 40 of 40 rows"),
        (
            TABLE.assign(n=pd.array([None, 2, *range(38)], "Int64")),
            "(column 'n' .* holds <NA> in 1 of 40 rows|1 of 40 rows .column 'n': 1)",
        ),
        (pd.concat([TABLE, TABLE], axis=1), "two columns are called 'age'"),
        (TABLE[[]], "a table without columns"),
        (
            TABLE.mask(TABLE["age"] > 50, np.nan).assign(pulse=1),
            r"not finite in \d+ of 40 rows \(column 'age': \d+, column 'height': \d+, column 'we",
        ),
    ],
)
def test_tables_that_are_no_numbers(table, says):
    with pytest.raises(hatjax.InputError, match=f"task 0: x_train.*{says}"):
        hatjax.fit([(table, Y, table, Y)], **TINY)


def test_columns_of_any_numbers():
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, 1], "c": [True, False], 3: [2, 3]})
    table["d"] = pd.array([1, 2], "Int64")
    found, names = columns.table(table, "here")
    assert names == ("a", "b", "c", "3", "d") and found.dtype == float
    np.testing.assert_array_equal(found, [[1, 0.5, 1, 2, 1], [2, 1, 0, 3, 2]])


@pytest.mark.parametrize(
    "value, says",
    [
        (np.nan, "that are not finite"),
        (-np.inf, "that are not finite"),
        (1e39, "beyond 1e[+]38, too large for float32,"),
    ],
)
def test_where_numbers_are_missing(value, says):
    x = np.zeros((50, 9))
    x[[3, 7], 2], x[7, 5] = value, value
    where = r"in 2 of 50 rows \(column 2: 2, column 5: 1; columns count from 0\)"
    with pytest.raises(hatjax.InputError, match=f"x holds numbers {says} {where}"):
        raw.numbers(x, "x")
    with pytest.raises(hatjax.InputError, match=r"in 2 of 50 rows \(column 'c2': 2, column 'c5'"):
        raw.numbers(x, "x", tuple(f"c{i}" for i in range(9)))
    with pytest.raises(hatjax.InputError, match=f"{says} in 2 of 50 rows:"):
        raw.numbers(x.reshape(50, 3, 3), "x")
    with pytest.raises(hatjax.InputError, match=r"column 5: 50, and 3 more columns"):
        raw.numbers(np.full((50, 9), value), "x")
    with pytest.raises(hatjax.InputError, match="in 1 of 1 rows"):
        raw.numbers(value, "x")


RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (60, 8, 8, 3), np.uint8)
DIGITS = RNG.integers(0, 17, (60, 64)).astype(float)
LONG_TAILED = np.exp(RNG.normal(9, 1.2, (400, 1))) * [[1] + 16 * [1e-6]]  # as salaries are


@pytest.mark.parametrize(
    "train, x",
    [
        (BYTES, BYTES / 255),
        (BYTES, (BYTES / 255)[:1]),
        (BYTES, BYTES > 127),
        (BYTES, (BYTES > 127).astype(np.uint8)),
        (BYTES, BYTES / 127.5 - 1),
        (BYTES, (BYTES - 127.0) / 70),
        (BYTES, BYTES * 257.0),
        (BYTES / 255, BYTES),
        (BYTES / 255, BYTES / 127.5 - 1),
        (BYTES / 255, (BYTES - 127.0) / 70),
        (BYTES / 127.5 - 1, BYTES),
        (BYTES * 257.0, BYTES),
        (DIGITS, DIGITS / 16),
        (DIGITS / 16, DIGITS),
        (DIGITS, DIGITS / 255),
        ((DIGITS - 8) / 5, DIGITS * 16),
        (X, (X - X.mean(0)) / X.std(0)),
        ((X - X.mean(0)) / X.std(0), X),
        (X, 1000 * X[:1]),
    ],
)
def test_another_unit_is_refused(train, x):
    kept = scale.of(train.reshape(len(train), 1, 1, -1) if train.ndim == 2 else train)
    with pytest.raises(hatjax.InputError, match="here: numbers from .* in that unit"):
        scale.check(raw.numbers(x, "here"), kept, "here")
    scale.check(raw.numbers(train, "here"), kept, "here")


@pytest.mark.parametrize(
    "train, x",
    [
        (BYTES, BYTES * 1.0),
        (BYTES, BYTES[:1] // 20),  # a dark picture
        (BYTES, BYTES[:1] // 5 * 1.0),
        (BYTES, np.zeros((3, 8, 8, 3))),
        (BYTES, np.full((3, 8, 8, 3), 255)),
        (BYTES, BYTES * 1.05 - 5),  # as after resampling
        (X, X[:1]),
        (X, 3 * X),  # measurements may be unusual
        (X, -X),
        (X, np.where(np.arange(40)[:, None] == 3, 1e5, X)),  # one outlier
        (X[:, :1], np.full((1, 1), 0.001)),  # too few to tell
        (LONG_TAILED, LONG_TAILED[LONG_TAILED[:, 0].argmin()][None]),
        (BYTES * 1.0, BYTES[:1] / 30),  # a dark picture again
        (np.zeros((9, 3)), X),
    ],
)
def test_the_same_unit_is_taken(train, x):
    kept = scale.of(train.reshape(len(train), 1, 1, -1) if train.ndim == 2 else train)
    scale.check(raw.numbers(x, "here"), kept, "here")


def test_models_know_their_unit(trained_runs):
    model = hatjax.load(trained_runs["mlp"])
    x, y = trained.images("mlp", trained_runs["mlp"]), np.zeros(40, int)
    bytes_of = "0 to 1, but training had 0 to 255: .* 255 . x"
    for wrong in (x / 255, (x / 255)[:1]):
        with pytest.raises(hatjax.InputError, match=bytes_of):
            hatjax.predict(model, wrong, 2)
        with pytest.raises(hatjax.InputError, match=bytes_of):
            hatjax.evaluate(model, wrong, y[: len(wrong)], 2)
        with pytest.raises(hatjax.InputError, match=bytes_of):
            export.predict(hatjax.cut(model, 2), wrong)
    np.testing.assert_array_equal(
        hatjax.predict(model, x, 2), hatjax.predict(model, x.astype(float), 2)
    )
    x, y = BYTES, np.arange(60) % 2
    with pytest.raises(hatjax.InputError, match="task 0: x_test: .* had 0 to 1: .* x / 255"):
        hatjax.fit([(x / 255, y, x * 1.0, y)], **TINY)
    with pytest.raises(hatjax.InputError, match="task 0: x_test: numbers from 0 to 1, but"):
        hatjax.fit([(x * 1.0, y, x / 255, y)], **TINY)


def test_columns_keep_one_order_over_all_tasks():
    """Also where the first task has other columns, and where a task is added to a trained model."""
    other = TABLE.add_prefix("my ")
    sets = [(other, Y, other, Y), (TABLE, Y, TABLE, Y), (MIXED, Y, MIXED, Y)]
    result = hatjax.fit(sets, **TINY)
    assert [a.columns for a in result.model.about[1:]] == [tuple(NAMES)] * 2
    new = TABLE[["weight", "height", "pulse", "age"]] + 1
    tests = [s[2:] for s in sets]
    more = hatjax.extend(result.model, [(new, Y, new, Y)], earlier=tests, quiet=True)
    assert more.model.about[3].columns == tuple(NAMES)
    found = hatjax.predict(more.model, MIXED)  # of the task that is found for each
    for t in {*found.task.tolist()} - {0}:
        logits = np.array(hatjax.predict(more.model, MIXED, t))
        mine = found.task == t
        np.testing.assert_array_equal(found.within[mine], logits.argmax(1)[mine])


def test_joint_training_finds_the_columns_and_classes_of_earlier_tasks():
    words = np.array(["cat", "dog"])[Y]
    sets = [(TABLE, words, TABLE, words), (MIXED, words, MIXED, words)]
    model = hatjax.fit(sets, "joint", **TINY).model
    new = [(TABLE + 1, words, TABLE + 1, words)]
    ours, by_hand = (
        hatjax.extend(model, new, earlier=earlier, quiet=True).accuracy
        for earlier in (sets, [sets[0], (TABLE, words, TABLE, words)])
    )
    np.testing.assert_array_equal(ours, by_hand)
    third = np.where(np.arange(40) < 2, "ant", words)
    with pytest.raises(hatjax.InputError, match="hold 'ant': task 1 has the classes cat, dog"):
        hatjax.extend(model, new, earlier=[sets[0], (TABLE, third, *sets[1][2:])], quiet=True)


def test_half_precision_is_read_as_it_is():
    x = X.astype(np.float16)
    np.testing.assert_array_equal(raw.numbers(x, "x"), x.astype(np.float32))
