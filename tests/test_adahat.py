"""AdaHAT's step by hand, and HAT annealed over a whole task from a dense start (HAT-CL)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, hat, networks, protection
from hatjax.approaches import adahat
from hatjax.data import feed
from hatjax.errors import InputError
from hatjax.training import train
from tests.test_past import small

KEY = jax.random.key(0)


def test_the_share_of_movement_by_hand():
    axes = {"kernel": ("a", "b"), "bias": ("b",), "head": protection.PER_TASK}
    net = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3), "head": jnp.zeros((2, 4))}
    uses = {"a": jnp.array([0.0, 2.0]), "b": jnp.array([3.0, 1.0, 0.0])}
    got = adahat.shares({"uses": uses, "r": {"a": 9.0, "b": 0.5}}, 1, axes, net)
    # n = min of the two units' uses, r that of the layer's own gate b: 0.5 / (n + 0.5)
    np.testing.assert_allclose(got["kernel"], [[1, 1, 1], [0.5 / 2.5, 0.5 / 1.5, 1]], rtol=1e-6)
    np.testing.assert_allclose(got["bias"], [0.5 / 3.5, 0.5 / 1.5, 1], rtol=1e-6)
    np.testing.assert_array_equal(got["head"], [[0], [1]])


@pytest.mark.parametrize("r", [0.0, 1e-45, 3e38, np.inf])
def test_an_unused_weight_moves_freely_at_the_edges_of_float32(r):
    got = adahat.slowed(jnp.array([0.0, 1.0]), jnp.float32(r))
    np.testing.assert_allclose(got, [1, 1 if r > 1 else 0], atol=1e-29)


def test_the_intensity_by_hand():
    a, past = {"a": jnp.array([1.0, 0.0, 1.0, 0.5])}, {"a": jnp.array([1.0, 0.0, 0.0, 0.0])}
    # Of three free units the task takes 1.5: R = 0.5, so r = 0.3 / (0.1 + 0.5).
    assert float(adahat.intensity(a, past, 0.3, 0.1)["a"]) == pytest.approx(0.5)
    full = {"a": jnp.ones(4)}  # where none is free, R = 0
    assert float(adahat.intensity(a, full, 0.3, 0.1)["a"]) == pytest.approx(3)


def test_a_step_slows_what_tasks_use():
    """The step of SGD is -lr r / (n + r) times the gradient that HAT's loss has."""
    c, tasks, network, approach = small("mlp", approach="adahat")
    c.approach.alpha, c.approach.epsilon = 0.2, 0.1
    hyper = train.hyperparameters(c)
    data = feed.put(tasks, 1, "train", feed.capacity(tasks, "train", c.batch))
    batch = feed.batch(data, None, 0, c.batch)
    params, memory = approach.init(KEY)
    used = {g: (jnp.arange(n) % 3).astype(jnp.float32) for g, n in network.units.items()}
    past = jax.tree.map(lambda n: jnp.minimum(n, 1), used)
    memory = memory | {"uses": used, "past": past}
    step = train.Step(1, 2, jnp.float32(0.5), jnp.float32(0.1), KEY, hyper)
    own = approach.take(params, memory, step)
    _, grads = train.gradient(approach, own, memory, batch, step)
    new, *_ = train.train_step(
        approach, own, memory, train.moments(approach, own, memory, step), batch, step
    )
    a = hat.gate(own["gates"], 1, hat.anneal(0.5, 400.0))
    first, second = network.units
    free = 1 - past[second]
    r = 0.2 / (0.1 + jnp.sum(a[second] * free) / jnp.sum(free))
    n = jnp.minimum(used[first][:, None], used[second][None])
    moved = new["trunk"][second]["kernel"] - own["trunk"][second]["kernel"]
    want = -0.1 * grads["trunk"][second]["kernel"] * r / (n + r)
    assert (jnp.abs(want[n > 0]) > 0).any()
    np.testing.assert_allclose(moved, want, rtol=1e-4, atol=1e-7)


def test_uses_are_summed():
    c, _, network, approach = small("mlp", approach="adahat")
    hyper = train.hyperparameters(c)
    params, memory = approach.init(KEY)
    total = jax.tree.map(jnp.zeros_like, memory["past"])
    for t in range(3):
        step = train.Step(t, t, jnp.float32(1), jnp.float32(0), None, hyper)
        params, memory = approach.end_task(params, memory, None, step)
        total = jax.tree.map(jnp.add, total, network.gates(params, t, hyper.approach.s_max))
    for gate, n in memory["uses"].items():
        np.testing.assert_allclose(n, total[gate], rtol=1e-6)
        assert (n <= 3).all() and (n > memory["past"][gate]).any()
    left = approach.with_past(memory, jax.tree.map(jnp.zeros_like, memory["past"]))
    assert not any(n.any() for n in left["uses"].values())


def test_annealing_over_a_task():
    c, tasks, network, _ = small("mlp")
    c.approach.anneal, c.approach.gate_init = "dip_task", "dense"
    c.schedule, c.epochs, c.lr = "constant", 4, 0.01
    config.check(c)
    network = networks.make(c, (6, 6, 2), network.classes)
    approach = approaches.make(c, network)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    length = feed.capacity(tasks, "train", c.batch)
    params, memory = program.init(KEY)
    assert all((e == 1).all() for e in params["gates"].values())
    for t in range(2):  # it begins anew with each task
        turn, found = feed.turn(tasks, t), []
        data = feed.put(tasks, t, "train", length)
        state = program.begin(params, memory, turn, KEY, hyper)
        for _ in range(4):
            state, scores = program.epoch(state, data, data, turn, hyper)
            found.append(float(scores["s_last"]))
        p = (1 + np.cos(2 * np.pi * np.arange(1, 5) / 4)) / 2
        np.testing.assert_allclose(found, 1 / 400 + (400 - 1 / 400) * p, rtol=1e-5, atol=1e-4)
        params, memory = program.end(state, data, turn, hyper)


def test_annealing_over_a_task_needs_its_length():
    c = config.make("digits", "hat")
    c.approach.anneal = "dip_task"
    with pytest.raises(InputError, match="take --config.schedule=cosine or constant"):
        config.check(c)
