"""Optimizers by name, schedules, the last batch, augmentation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import hatjax
from hatjax import approaches, config
from hatjax.data import feed
from hatjax.errors import InputError
from hatjax.training import optimizers, schedules, steps, train
from hatjax.types import Step, Turn
from tests.test_past import small


def of(**fields):
    c = config.make("digits", "sgd")
    c.optimizer = ConfigDict(fields)
    return c


def moved(tx):
    params, state = {"w": jnp.ones(3)}, None
    state = tx.init(params)
    for g in (1.0, -0.5, 2.0):
        updates, state = tx.update({"w": jnp.full(3, g)}, state, params)
        params = optax.apply_updates(params, updates)
    return params["w"]


@pytest.mark.parametrize(
    "fields, want",
    [
        (dict(name="sgd"), optax.sgd(0.1)),
        (dict(name="sgd", momentum=0.5), optax.sgd(0.1, momentum=0.5)),
        (dict(name="momentum"), optax.sgd(0.1, momentum=0.9)),
        (dict(name="momentum", momentum=0.5), optax.sgd(0.1, momentum=0.5)),
        (dict(name="nesterov"), optax.sgd(0.1, momentum=0.9, nesterov=True)),
        (dict(name="adamw", weight_decay=0.05), optax.adamw(0.1, weight_decay=0.05)),
        (dict(name="lion", b1=0.8), optax.lion(0.1, b1=0.8)),
        (dict(name="contrib.sophia"), None),
        (dict(name="rmsprop", decay=0.8), optax.rmsprop(0.1, decay=0.8)),
    ],
)
def test_an_optimizer_by_name(fields, want):
    if want is None:  # it needs more than gradients
        with pytest.raises(InputError, match="cannot be used"):
            optimizers.make(of(**fields))
        return
    got = jax.jit(lambda lr: moved(optimizers.make(of(**fields))(lr)))(0.1)
    np.testing.assert_allclose(got, moved(want), rtol=1e-6)


@pytest.mark.parametrize(
    "fields, says",
    [
        (dict(name="adamww"), "unknown optimizer 'adamww'. Did you mean 'adamw'"),
        (dict(name="scale_by_adam"), "unknown optimizer 'scale_by_adam'"),
        (dict(name="chain"), "unknown optimizer 'chain'"),
        (dict(name="adamw", weigth_decay=0.1), "'weigth_decay'. Did you mean 'weight_decay'"),
        (dict(name="adam", learning_rate=0.1), "learning_rate = 0.1: the schedule sets it"),
        (dict(name="adam", b1="high"), r"optax.adam\(b1='high'\) cannot be used"),
        (dict(name="lbfgs"), "optax.lbfgs.* cannot be used"),
    ],
)
def test_a_wrong_optimizer_is_told(fields, says):
    with pytest.raises(InputError, match=says):
        optimizers.make(of(**fields))


def rates(schedule: str, epochs: int = 4, failing: int | None = None) -> list[float]:
    c = config.make("digits", "sgd")
    c.schedule, c.epochs, c.lr = schedule, epochs, 0.8
    s, hyper = schedules.make(c), train.hyperparameters(c)
    step = Step(0, 0, jnp.float32(1), jnp.float32(0), None, hyper)
    state, _ = s.start({"w": jnp.zeros(1)}, {}, step)
    found = []
    for epoch in range(epochs):
        found.append(float(state.lr))
        state = s.mark_failed(state) if epoch == failing else state
        params = {"w": jnp.full(1, epoch)}
        state, params, _ = s.update(state, jnp.float32(epoch), params, {}, step)
    last, _ = s.best(state, params, {}, step)
    assert float(last["w"][0]) == (0 if schedule == "plateau" else epochs - 1)
    return found


@pytest.mark.parametrize("name", ["sgd", "packnet"])  # which begins anew after pruning
def test_moments_know_the_rate_of_the_first_step(name):
    """optax.rprop keeps its step sizes from its start on; with those of a rate of 0 it learns
    nothing."""
    x, y = np.random.default_rng(0).normal(size=(40, 4, 4)), np.arange(40) % 2
    how = dict(network={"widths": (5,)}, optimizer="rprop", lr=0.01, schedule="constant")
    first, later = (
        hatjax.fit([(x, y, x[:8], y[:8])], name, epochs=n, quiet=True, **how).model.params["trunk"]
        for n in (3, 9)
    )
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), first, later)
    assert all(jax.tree.leaves(changed))


def test_schedules():
    np.testing.assert_allclose(rates("constant"), [0.8] * 4)
    want = 0.4 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(rates("cosine"), want, rtol=1e-6)
    np.testing.assert_allclose(rates("constant", failing=1), [0.8, 0.8, 0.8 / 3, 0.8 / 3])
    np.testing.assert_allclose(rates("cosine", failing=1)[2:], want[2:] / 3, rtol=1e-6)
    np.testing.assert_allclose(rates("plateau"), [0.8] * 4)


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_planned_schedule_ends_after_its_epochs(name):
    """Also where the task has more, as PackNet's after pruning when its first part ended early."""
    c = config.make("digits", "sgd")
    c.schedule, c.epochs = name, 3
    s, step = schedules.make(c), train.evaluation_step(Turn(0, 0), train.hyperparameters(c))
    state, done = s.start({}, {}, step)[0], []
    for _ in range(4):
        state, *_ = s.update(state, jnp.float32(1), {}, {}, step)
        done.append(bool(state.done))
    assert done == [False, False, True, True]


def test_pathnet_has_its_own_schedule():
    network = small("mlp")[2]
    c = config.make("digits", "pathnet")
    c.schedule = "cosine"
    with pytest.raises(InputError, match="config.schedule = 'cosine': PathNet"):
        approaches.make(c, network)


@pytest.mark.parametrize("fidelity, last", [("paper", 3 / 8), ("code", 1.0)])
def test_every_example_counts_the_same(fidelity, last):
    c = config.make("digits", "sgd")
    c.fidelity, c.batch = fidelity, 8
    got = [float(steps.size(c, jnp.int32(i), 27)) for i in range(4)]
    np.testing.assert_allclose(got, [1, 1, 1, last])
    assert float(steps.size(c, jnp.int32(0), 5)) == 1  # a single batch is a whole step


def test_a_smaller_batch_takes_a_smaller_step():
    """The same three examples alone, as a whole batch and as the last of nine batches."""
    c, tasks, _, approach = small("mlp", approach="sgd")
    c.network.dropout = c.network.dropout_in = 0.0
    hyper, key = train.hyperparameters(c), jax.random.key(0)
    data = feed.put(tasks, 0, "train", feed.capacity(tasks, "train", c.batch))
    turn = feed.turn(tasks, 0)
    program = train.functions(c, approach)
    state = program.begin(*program.init(key), turn, key, hyper)
    step = [train.training_step(c, state, data, i, turn, key, hyper) for i in (0, 3)]
    assert float(step[1].lr) == pytest.approx(float(step[0].lr) * 3 / 8)


def test_running_statistics_ignore_what_pads_a_batch():
    c, tasks, network, approach = small("convnet")
    params, _ = approach.init(jax.random.key(0))
    key, s = jax.random.key(1), jnp.float32(3)
    x = jax.random.normal(key, (8, 8, 8, 3))
    weight = (jnp.arange(8) < 5).astype(jnp.float32)
    c.network.dropout = 0.0
    padded = network.apply(params, x, 1, s, key, weight)
    other = network.apply(params, x.at[5:].set(100.0), 1, s, key, weight)
    jax.tree.map(np.testing.assert_array_equal, padded.stats, other.stats)
    np.testing.assert_array_equal(padded.logits[:5], other.logits[:5])
    whole = network.apply(params, x, 1, s, key)
    mean = whole.stats["norm_c1"]["mean"]
    assert (mean[1] != padded.stats["norm_c1"]["mean"][1]).any()
    np.testing.assert_array_equal(mean[0], params["stats"]["norm_c1"]["mean"][0])  # another task's
    still = network.apply(params, x, 1, s)  # evaluation changes nothing
    jax.tree.map(np.testing.assert_array_equal, still.stats, params["stats"])


@pytest.mark.parametrize("augment", [("crop",), ("flip",), ("crop", "flip")])
def test_augmented_images_are_windows_of_the_padded_ones(augment):
    c = config.make("cifar", "hat")
    c.data.augment = augment
    x = 1.0 + jnp.arange(2 * 8 * 8 * 3, dtype=jnp.float32).reshape(2, 8, 8, 3)
    batch = feed.Batch(jnp.tile(x, (30, 1, 1, 1)), jnp.zeros(60, int), jnp.zeros(60, int), None)
    got = np.asarray(jax.jit(lambda key: feed.augmented(c, batch, key).x)(jax.random.key(0)))
    places = set()
    for k, image in enumerate(got):
        wide = np.pad(np.asarray(x[k % 2]), ((1, 1), (1, 1), (0, 0)))
        found = [
            (i, j, flipped)
            for i in range(3) for j in range(3) for flipped in (False, True)
            if np.array_equal(image, wide[i : i + 8, j : j + 8][:, :: -1 if flipped else 1])
        ]  # fmt: skip
        assert len(found) == 1
        places |= set(found)
    assert len({(i, j) for i, j, _ in places}) == (9 if "crop" in augment else 1)
    assert len({flipped for *_, flipped in places}) == (2 if "flip" in augment else 1)
    again = feed.augmented(c, batch, jax.random.key(0)).x
    np.testing.assert_array_equal(got, again)


def test_what_cannot_be_augmented_is_told():
    c = config.make("digits", "hat")
    c.data.augment = ("flip",)
    tasks = small("mlp")[1]
    feed.check_augment(c, tasks)
    with pytest.raises(InputError, match="config.data.augment = .*permuted"):
        feed.check_augment(c, [tasks[0]._replace(pixels=np.arange(72))])
    c.data.augment = ("rotate",)
    with pytest.raises(InputError, match="config.data.augment = .*'crop' and 'flip'"):
        config.check(c)


def test_numbers_are_numbers_with_a_point_or_without():
    c = config.make("digits", "hat")
    with c.unlocked():
        del c.approach.s_max
        c.approach.s_max = 100
        del c.lr
        c.lr = 1
    config.check(c)
    hyper = train.hyperparameters(c)
    assert hyper.approach.s_max == 100 and hyper.lr == 1
    assert config.traced(c).keys() == config.traced(config.make("digits", "hat")).keys()
