"""SI and MAS: what they hold to be important, on small cases computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hatjax import config, networks
from hatjax.approaches import mas, si
from hatjax.data import feed
from hatjax.networks import rows
from hatjax.training import fisher, train
from hatjax.types import Apply, Batch, Network, Out, Taken
from tests.test_contract import ROWS, feeds, setup
from tests.test_past import small
from tests.test_properties import at, close, found

KEY = jax.random.key(0)


def quadratic() -> Network:
    """A "network" of one weight, whose tests say what happens to it."""

    def init(key):
        return {"trunk": {"p": jnp.zeros(3)}, "norms": {}, "stats": {}, "gates": {}, "head": {}}

    def apply(params, x, task, s=None, key=None, weight=None):
        raise AssertionError("no test asks for its outputs")

    no_gates = lambda params, task, s: {}  # noqa: E731
    return Network(init, apply, no_gates, {}, {}, (2,))


def test_the_path_integral_on_a_quadratic_loss():
    """L = sum_i h_i (p_i - m_i)^2 / 2 by gradient steps of lr, from p0 and over, by hand.

    For small steps w_i tends to the fall of its part of the loss, h_i (p0_i - m_i)^2 / 2 minus what
    is left; for the weight with h = 0 it is 0. So Omega_i = w_i / (way_i^2 + xi).
    """
    c = config.make("digits", "si")
    approach = si.make(c, quadratic())
    h, m, lr = jnp.array([2.0, 0.5, 0.0]), jnp.array([1.0, -1.0, 5.0]), 0.001
    params, memory = approach.init(KEY)
    step = at(c, 0)
    params, memory = approach.begin_task(params, memory, step)
    p, w = np.zeros(3), np.zeros(3)
    mine = {"trunk": params["trunk"]}

    @jax.jit
    def one(mine, memory):
        grads = {"trunk": {"p": h * (mine["trunk"]["p"] - m)}}
        after = jax.tree.map(lambda p, g: p - lr * g, mine, grads)
        return after, approach.observe(memory, Taken(mine, after, grads), None, step)

    for _ in range(2000):
        mine, memory = one(mine, memory)
        g = np.asarray(h) * (p - np.asarray(m))
        w, p = w + lr * g * g, p - lr * g
    np.testing.assert_allclose(memory["way"]["p"], w, rtol=1e-4)
    fall = h * (m**2 - (p - m) ** 2) / 2
    np.testing.assert_allclose(w, fall, rtol=2e-3)
    _, memory = approach.end_task(params | mine, memory, None, step)
    np.testing.assert_allclose(
        memory["importance"]["p"], fall / (p**2 + c.approach.xi), rtol=5e-3
    )
    assert memory["importance"]["p"][2] == 0


def test_the_pull_is_not_part_of_the_path():
    """In the second task the gradient of the cross-entropy alone counts."""
    c = config.make("digits", "si")
    c.approach.c = 0.7
    approach, step = si.make(c, quadratic()), at(c, 1)
    _, memory = approach.init(KEY)
    old, omega = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, 2.0])
    memory = memory | {"old": {"p": old}, "importance": {"p": omega}}
    p, new, plain = jnp.array([2.0, 2.0, 2.0]), jnp.array([1.5, 1.9, 2.2]), jnp.arange(3.0)
    pull = jax.grad(lambda p: si.pull({"p": p}, {"p": old}, {"p": omega}, 0.7, step.lr))(p)
    np.testing.assert_allclose(pull, [0.7, 0, -2.8], rtol=1e-6)  # 2 c Omega (p - p*)
    taken = Taken(*({"trunk": {"p": v}} for v in (p, new, plain + pull)))
    memory = approach.observe(memory, taken, None, step)
    np.testing.assert_allclose(memory["way"]["p"], -plain * (new - p), rtol=1e-4, atol=1e-6)


def test_a_step_on_the_pull_never_goes_beyond_the_old_weight():
    """Whatever the importance: with 2 c Omega lr > 1 a step ends at p*, and evaluation (lr 0) has
    the whole pull."""
    old, p, omega = jnp.array([1.0, 1.0, 1.0]), jnp.array([3.0, 3.0, 3.0]), jnp.array([1, 10, 1e9])
    c, lr = 0.5, 0.1  # 2 c Omega lr = 0.1, 1, 1e8
    pull = jax.grad(lambda p: si.pull({"p": p}, {"p": old}, {"p": omega}, c, lr))(p)
    np.testing.assert_allclose(p - lr * pull, [2.8, 1, 1], rtol=1e-6)
    whole = si.pull({"p": p}, {"p": old}, {"p": omega}, c, jnp.float32(0))
    np.testing.assert_allclose(whole, c * 4 * jnp.sum(omega), rtol=1e-6)


def test_a_weight_that_did_worse_is_not_pushed_away():
    c = config.make("digits", "si")
    approach, step = si.make(c, quadratic()), at(c, 0)
    params, memory = approach.init(KEY)
    memory = memory | {"way": {"p": jnp.array([-1.0, 0.0, 1.0])}}
    _, memory = approach.end_task(params, memory, None, step)
    want = [0, 0, 1 / c.approach.xi]
    np.testing.assert_allclose(memory["importance"]["p"], want, rtol=1e-6)


def epochs_of_si(schedule: str, count: int):
    """The states after each epoch of a first task, and what the task leaves."""
    c, tasks, _, approach = setup("si")
    c.schedule, c.lr = schedule, 0.3
    approach = setup_approach(c, tasks)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    data, turn = feeds(c, tasks, approach)[0], feed.turn(tasks, 0)
    state = program.begin(*program.init(KEY), turn, KEY, hyper)
    start = jax.device_get(state.params["trunk"])
    wrong = data._replace(y=1 - data.y)  # the better it learns, the worse the validation loss
    valid = wrong if schedule == "plateau" else data
    ways, losses, trunks = [], [], []
    for _ in range(count):
        state, scores = program.epoch(state, data, valid, turn, hyper)
        ways.append(jax.device_get(state.memory["way"]))
        trunks.append(jax.device_get(state.params["trunk"]))
        losses.append(float(scores["valid_loss"]))
    params, memory = program.end(state, data, turn, hyper)
    return c, start, ways, trunks, losses, params, memory


def setup_approach(c, tasks):
    return si.make(c, networks.make(c, (4, 4, 1), (3, 2, 2)))


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_the_way_is_that_to_the_parameters_with_which_the_task_ends(schedule):
    c, start, ways, trunks, losses, params, memory = epochs_of_si(schedule, 6)
    best = int(np.argmin(losses)) if schedule == "plateau" else len(losses) - 1
    if schedule == "plateau":
        assert best < len(losses) - 1, "the last epoch is the best: this shows nothing"
    close(params["trunk"], trunks[best])
    want = jax.tree.map(
        lambda w, p, q: np.maximum(w / (np.square(p - q) + c.approach.xi), 0),
        ways[best], trunks[best], start,
    )  # fmt: skip
    close(memory["importance"], want, rtol=1e-4)
    assert any(np.any(w > 0) for w in jax.tree.leaves(want))


def test_mas_is_the_mean_size_of_the_gradients_of_a_linear_map():
    """F = W x: d |F|^2 / dW_ij = 2 F_i x_j, whose sizes are averaged over the examples."""
    w = np.array([[1.0, -2.0], [0.5, 3.0]])
    x = np.array([[1.0, 2.0], [-3.0, 1.0], [0.0, -1.0]])

    def apply(params, x, task, s=None, key=None, weight=None):
        logits = x.reshape(len(x), -1) @ params["trunk"]["w"].T
        beyond = jnp.full((len(x), 1), -jnp.inf)  # a class that the task has not
        return Out(jnp.concatenate([logits, beyond], axis=1), logits, {}, {})

    network = Network(lambda key: {}, apply, lambda *_: {}, {}, {}, (2,))
    c, tasks, _, _ = setup("mas")
    data = feeds(c, tasks, setup("mas")[3])[0]
    data = data._replace(
        x=jnp.asarray(x, jnp.float32).reshape(1, 3, 1, 2, 1), y=jnp.zeros((1, 3), jnp.int32),
        task=jnp.zeros((1, 3), jnp.int32), n=jnp.int32(3),
        mean=jnp.zeros((1, 1)), std=jnp.ones((1, 1)),
    )  # fmt: skip
    params = {"trunk": {"w": jnp.asarray(w, jnp.float32)}}
    got = fisher.mean_size(network, None, jnp.abs, mas.squared_norm, params, data, 0)
    f = x @ w.T
    want = np.mean([np.abs(2 * np.outer(f[k], x[k])) for k in range(3)], axis=0)
    np.testing.assert_allclose(got["w"], want, rtol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "alexnet", "convnet"])
def test_mas_in_one_pass_is_that_of_single_examples(name):
    """network.magnitudes against the gradients of single examples, one by one."""
    c, tasks, network, _ = small(name, approach="mas")
    data = feed.put(tasks, 1, "train", 32)
    params = network.init(KEY)
    assert (network.magnitudes is None) == (name == "convnet")
    ways: tuple[Apply | None, ...] = (network.magnitudes, None)
    fast, slow = (
        fisher.mean_size(network, way, jnp.abs, mas.squared_norm, params, data, 1) for way in ways
    )
    close(fast, slow, rtol=1e-3, atol=1e-6)
    total = jax.tree.map(jnp.zeros_like, params["trunk"])

    def norm(trunk, x):
        return jnp.sum(network.apply(params | {"trunk": trunk}, x, 1).logits[:, :2] ** 2)

    gradient = jax.jit(jax.grad(norm))
    for i in range(27):
        one = gradient(params["trunk"], feed.batch(data, None, i, 1).x)
        total = jax.tree.map(lambda t, g: t + jnp.abs(g), total, one)
    close(slow, jax.tree.map(lambda t: t / 27, total), rtol=1e-3, atol=1e-6)


def test_mas_adds_the_tasks_and_pulls_with_lambda():
    c, tasks, network, approach = setup("mas")
    memory, each = approach.init(KEY)[1], []
    for t in range(2):
        data, params = feeds(c, tasks, approach)[t], found(network, t)
        _, memory = approach.end_task(params, memory, data, at(c, t, KEY))
        each.append(
            fisher.mean_size(network, None, jnp.abs, mas.squared_norm, params, data, ROWS[t])
        )
    close(memory["importance"], jax.tree.map(jnp.add, *each), rtol=1e-4)
    params, step = found(network, 5), at(c, 2)
    batch = feed.batch(feeds(c, tasks, approach)[2], None, 0, 8)
    got = jax.grad(lambda p: approach.loss(p, memory, batch, step)[0])(params)["trunk"]

    def plain(trunk):
        logits = network.apply(params | {"trunk": trunk}, batch.x, ROWS[2]).logits
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.y))

    want = jax.tree.map(
        lambda g, w, p, q: g + 2 * c.approach.lamb * w * (p - q),
        jax.grad(plain)(params["trunk"]), memory["importance"], params["trunk"], memory["old"],
    )  # fmt: skip
    close(got, want, rtol=1e-4, atol=1e-5)


def test_steps_that_are_not_observed_carry_no_memory():
    c, tasks, _, approach = setup("ewc")
    f = train.parts(c, approach)
    data, turn, hyper = feeds(c, tasks, approach)[0], feed.turn(tasks, 0), train.hyperparameters(c)
    state = train.functions(c, approach).begin(*approach.init(KEY), turn, KEY, hyper)
    assert f.start(state, data, turn, hyper).memory is None
    own = rows.take(state.params, turn.task)
    batch = Batch(jnp.zeros((2, 4, 4, 1)), *2 * [jnp.zeros(2, jnp.int32)], jnp.ones(2))
    *_, memory = train.observed_step(
        approach, own, state.memory, state.optimizer, batch, at(c, 0, KEY)
    )
    assert memory is state.memory
