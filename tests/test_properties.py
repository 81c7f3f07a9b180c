"""What each approach promises with fidelity "paper", most of it broken by the published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import feed, train
from hatjax.approaches import fisher, lwf
from hatjax.networks import rows
from hatjax.types import Batch
from tests.test_contract import CLASSES, feeds, setup

KEY = jax.random.key(0)


def at(c, t, key=None):
    return train.Step(
        jnp.int32(t), jnp.float32(1), jnp.float32(0.1), key, train.hyperparameters(c)
    )


def found(network, t):
    """Parameters as task t might have found them."""
    return network.init(jax.random.fold_in(KEY, t))


def close(got, want, rtol=1e-5, atol=1e-6):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def entropy_of(params, t):
    """The cross-entropy of task t as a function of the trunk, as fisher wants it."""
    c, _, _, sgd = setup("sgd")

    def entropy(trunk, batch, key):
        return sgd.loss(params | {"trunk": trunk}, {}, batch, at(c, t, key))[0]

    return entropy


def test_fisher_is_that_of_single_examples():
    c, tasks, network, sgd = setup("sgd")
    data, params = feeds(c, tasks, sgd)[1], found(network, 0)
    entropy = entropy_of(params, 1)
    got = fisher.per_example(entropy, params["trunk"], data)
    total = jax.tree.map(jnp.zeros_like, params["trunk"])
    gradient = jax.jit(jax.grad(entropy))
    for i in range(int(data.n)):
        one = feed.batch(data, None, i, 1)
        total = jax.tree.map(lambda f, g: f + g**2, total, gradient(params["trunk"], one, None))
    close(got, jax.tree.map(lambda f: f / data.n, total), rtol=1e-4)
    batches = fisher.per_batch(entropy, params["trunk"], data, KEY)
    assert jnp.sum(batches["fc1"]["kernel"]) < jnp.sum(got["fc1"]["kernel"]) / 2


def test_ewc_pulls_with_lambda_f():
    c, tasks, network, ewc = setup("ewc")
    data = feeds(c, tasks, ewc)
    old, params = found(network, 0), found(network, 1)
    _, memory = ewc.end_task(old, ewc.init(KEY)[1], data[0], at(c, 0, KEY))
    batch = feed.batch(data[1], None, 0, 8)
    got = jax.grad(lambda p: ewc.loss(p, memory, batch, at(c, 1))[0])(params)["trunk"]
    plain = jax.grad(entropy_of(params, 1))(params["trunk"], batch, None)
    f = fisher.per_example(entropy_of(old, 0), old["trunk"], data[0])
    want = jax.tree.map(
        lambda g, f, p, q: g + c.approach.lamb / 20 * f * (p - q),
        plain, f, params["trunk"], old["trunk"],
    )  # fmt: skip
    close(got, want, rtol=1e-4, atol=1e-5)


def test_ewc_averages_fisher_over_the_tasks():
    c, tasks, network, ewc = setup("ewc")
    memory, singles = ewc.init(KEY)[1], []
    for t, data in enumerate(feeds(c, tasks, ewc)):
        params = found(network, t)
        _, memory = ewc.end_task(params, memory, data, at(c, t, KEY))
        singles.append(fisher.per_example(entropy_of(params, t), params["trunk"], data))
    close(memory["fisher"], jax.tree.map(lambda *f: sum(f) / 3, *singles))


def ends_of_imm_mode(fidelity):
    """Pairs of a merged trunk parameter after three tasks and what solves the least squares."""
    c, tasks, network, imm = setup("imm_mode", fidelity)
    memory, ps, fs = imm.init(KEY)[1], [], []
    for t, data in enumerate(feeds(c, tasks, imm)):
        params = found(network, t)
        ps.append(params["trunk"])
        fs.append(fisher.per_example(entropy_of(params, t), params["trunk"], data))
        merged, memory = imm.end_task(params, memory, data, at(c, t, KEY))

    def solve(*leaves):  # argmin_p sum_k F_k (p - p_k)^2; where nobody minds, the last one's
        f, p = np.split(np.stack(leaves).astype(np.float64), 2)
        return np.where(f.sum(0) > 0, (f * p).sum(0) / np.maximum(f.sum(0), 1e-300), p[-1])

    want = jax.tree.map(solve, *fs, *ps)
    return list(zip(jax.tree.leaves(merged["trunk"]), jax.tree.leaves(want), strict=True))


def test_imm_mode_solves_the_weighted_least_squares_problem():
    for got, want in ends_of_imm_mode("paper"):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert any(np.max(np.abs(got - want)) > 0.01 for got, want in ends_of_imm_mode("code"))


def test_imm_mean_is_the_mean_of_all_tasks_and_leaves_heads_alone():
    for fidelity in ("paper", "code"):
        c, tasks, network, imm = setup("imm_mean", fidelity)
        memory, trunks = imm.init(KEY)[1], []
        for t, data in enumerate(feeds(c, tasks, imm)):
            params = found(network, t)
            trunks.append(params["trunk"])
            merged, memory = imm.end_task(params, memory, data, at(c, t, KEY))
        close(merged["trunk"], jax.tree.map(lambda *p: sum(p) / 3, *trunks))
        same = jax.tree.map(jnp.array_equal, merged["head"], params["head"])
        assert all(jax.tree.leaves(same)) == (fidelity == "paper")


@pytest.mark.parametrize("name", ["sgd", "sgd_frozen", "ewc", "imm_mean", "imm_mode", "lfl", "lwf"])
def test_a_head_that_is_never_trained_stays_untouched(name):
    c, tasks, _, approach = setup(name)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    params, memory = program.init(KEY)
    start = params["head"]["kernel"][2]
    for t, data in enumerate(feeds(c, tasks, approach)[:2]):
        state = program.begin(params, memory, t, KEY, hyper)
        state, _ = program.epoch(state, data, data, t, hyper)
        params, memory = program.end(state, data, t, hyper)
    np.testing.assert_array_equal(params["head"]["kernel"][2], start)


def test_lfl_does_not_depend_on_the_size_of_the_batch():
    for fidelity in ("paper", "code"):
        c, tasks, network, lfl = setup("lfl", fidelity)
        _, memory = lfl.end_task(found(network, 0), {}, None, None)
        batch = feed.batch(feeds(c, tasks, lfl)[1], None, 0, 8)
        twice = Batch(*(jnp.concatenate([v, v]) for v in batch))
        losses = [lfl.loss(found(network, 1), memory, b, at(c, 1))[0] for b in (batch, twice)]
        assert np.isclose(*losses, rtol=1e-5) == (fidelity == "paper")


def test_random_guesses_each_task_by_its_own_labels():
    c, tasks, _, approach = setup("random")
    params, memory = approach.init(KEY)
    for t, data in enumerate(feeds(c, tasks, approach)):
        params, memory = approach.end_task(params, memory, data, at(c, t))
    for t, task in enumerate(tasks):
        shares = np.bincount(task.train.y, minlength=max(CLASSES)) / len(task.train.y)
        np.testing.assert_allclose(memory["frequencies"][t], shares, rtol=1e-6)


def test_sgd_frozen_keeps_the_trunk_of_the_first_task():
    c, tasks, network, approach = setup("sgd_frozen")
    params, batch = found(network, 0), feed.batch(feeds(c, tasks, approach)[1], None, 0, 8)
    for t in (0, 1):
        own = rows.take(params, t)
        start = approach.transform.init(own)
        new, *_ = train.train_step(approach, own, {}, start, batch, at(c, t, KEY))
        same = jax.tree.map(jnp.array_equal, new["trunk"], params["trunk"])
        assert all(jax.tree.leaves(same)) == (t == 1)
        assert not jnp.array_equal(new["head"]["kernel"], own["head"]["kernel"])


def test_joint_classifies_every_example_by_its_own_head():
    c, tasks, network, joint = setup("joint")
    data, params = feeds(c, tasks, joint)[2], found(network, 0)
    assert int(data.n) == sum(len(task.train.y) for task in tasks)
    batch = feed.batch(data, None, 0, int(data.n))
    loss, out = joint.loss(params, {}, batch, at(c, 2))
    for t in range(3):
        own = network.apply(params, batch.x, t).logits
        mine = np.asarray(batch.task) == t
        np.testing.assert_allclose(out.logits[mine], own[mine], rtol=1e-5, atol=1e-6)
    assert np.isfinite(loss)


def test_distillation_survives_a_temperature_and_confident_heads():
    logits = jnp.array([[200.0, -200.0, -jnp.inf], [1.0, 2.0, 3.0]])
    old = jnp.array([[0.0, 1.0, -jnp.inf], [1.0, 2.0, 3.0]])
    gradient = jax.grad(lambda x: jnp.sum(lwf.distillation(x, old, jnp.float32(2))))(logits)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient[1], 0, atol=1e-5)  # where the heads agree
