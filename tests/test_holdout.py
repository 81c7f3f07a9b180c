"""Hold-outs: each class gives its share, and keeps an example to train on."""

import logging

import numpy as np
import pytest

import hatjax
from hatjax import config
from hatjax.data import npz, tasks
from hatjax.data.raw import Raw
from hatjax.data.tasks import holdout


def held_out(y, fidelity: str = "paper", **changes):
    """The labels of the training and validation splits."""
    c = config.make("mixture", "hat")
    c.update_from_flattened_dict({"fidelity": fidelity, **changes})
    x = np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1, 1)
    train, valid = holdout.hold_out(c, x, np.asarray(y))
    places = np.concatenate([train.x, valid.x]).ravel()
    assert len(set(places)) == len(places) <= len(y)  # each at most once
    return train.y, valid.y


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("valid", [0.01, 0.15, 0.5, 0.95])
@pytest.mark.parametrize(
    "counts", [(1, 2), (2, 1), (1, 1, 2), (3, 3, 3), (1, 50, 7), (300, 1), (100, 100)]
)
def test_every_class_is_trained_on_and_something_is_held_out(counts, valid, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, held = held_out(y, seed=seed, **{"tasks.valid": valid})
    assert set(train) == set(range(len(counts)))
    most = len(y) - len(counts)
    assert len(held) == min(max(int(valid * len(y)), 1), most) >= 1
    for label, count in enumerate(counts):  # as many as its share, give or take one
        if len(held) < most:
            assert abs(np.sum(held == label) - len(held) * count / len(y)) <= 1


def test_a_lone_example_is_never_held_out():
    for place in range(60):
        for seed in range(5):
            y = np.arange(60) % 2
            y[place] = 2
            train, _ = held_out(y, seed=seed)
            assert 2 in train


def test_of_a_sample_each_class_is_trained_on():
    y = np.repeat(np.arange(20), 30)
    for seed in range(10):
        train, held = held_out(y, seed=seed, **{"data.examples": 60})
        assert len(train) == 51 and set(held) <= set(train)


def test_which_examples_are_held_out_is_random():
    y, many = np.repeat([0, 1], 50), set()
    for seed in range(5):
        c = config.make("mixture", "hat")
        c.seed = seed
        _, valid = holdout.hold_out(c, np.arange(100.0).reshape(-1, 1, 1, 1), y)
        many |= set(valid.x.ravel())
    assert len(many) > 40


def test_the_published_hold_out_does_not_look_at_classes():
    y = np.arange(20)
    places = holdout.order(20, 0)
    train, held = held_out(y, "code")
    np.testing.assert_array_equal(held, places[:3])
    np.testing.assert_array_equal(train, places[3:])


def small(y_train, y_test) -> Raw:
    x = np.random.default_rng(0).integers(0, 256, (len(y_train), 4, 4, 1), np.uint8)
    return Raw(x, np.asarray(y_train), x[: len(y_test)], np.asarray(y_test))


def sequence(tmp_path, raw: Raw, **changes):
    npz.write(tmp_path / "mine.npz", raw)
    c = config.make("mixture", "hat")
    changes = {"data.image": (), "data.sets": ("mine",), "data.root": str(tmp_path)} | changes
    c.update_from_flattened_dict(changes)
    return tasks.make(c)


def test_a_class_without_test_images_is_told(tmp_path, caplog):
    raw = small([0, 0, 1, 1, 2, 2], [0, 2])
    with caplog.at_level(logging.WARNING):
        (task,) = sequence(tmp_path, raw)
    assert task.classes == 3 and len(caplog.records) == 1
    assert "task 'mine' has no test image of its class 1: its accuracy" in caplog.text
    caplog.clear()
    several = {"tasks.kind": "permuted", "tasks.count": 3}
    sequence(tmp_path, raw._replace(names=("cat", "dog", "eel")), **several)
    assert len(caplog.records) == 1
    assert "'mine permuted 0' and 2 more has no test image of its class dog" in caplog.text


def test_a_class_that_the_published_hold_out_takes_whole(tmp_path):
    raw = small([0] * 9 + [1], [0, 1])
    seed = next(s for s in range(99) if holdout.order(10, s)[0] == 9)
    with pytest.raises(hatjax.InputError, match="class 1, since all of them are held out"):
        sequence(tmp_path, raw, fidelity="code", seed=seed)
    assert len(sequence(tmp_path, raw, seed=seed)[0].valid.y) == 1


def test_three_examples_are_enough():
    x, y = np.array([[0.0, 1], [1, 0], [0, 2]]), [0, 1, 0]
    result = hatjax.fit([(x, y, x, y)], epochs=1, network={"widths": (4,)}, quiet=True)
    assert result.accuracy.shape == (1, 1)
