"""The compiled epoch: one program for all tasks, nothing crosses to the host meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, networks
from hatjax.data import feed
from hatjax.networks import rows
from hatjax.training import plateau, train
from hatjax.types import Split, State, Task

SIZES = (20, 33, 8)  # examples of the tasks: another number of batches, another last batch
CLASSES = (2, 3, 2)


FIELDS = {
    "mlp": dict(widths=(6, 5)),
    "alexnet": dict(widths=(2, 2, 2, 4, 4)),
    "resnet18": dict(widths=(2, 2, 2, 2)),
    "vit": dict(width=6, depth=1, patch=6),
}


def setup(approach: str = "hat", name: str = "mlp"):
    c = config.make("digits", approach, network=name)
    c.network.update(FIELDS[name])
    c.batch, c.eval_batch, side = 8, 16, 4 if name == "mlp" else 12
    rng = np.random.default_rng(0)
    tasks = []
    for t, n in enumerate(SIZES):
        split = Split(rng.integers(0, 256, (n, side, side, 1), np.uint8), np.arange(n) % CLASSES[t])
        tasks.append(
            Task(str(t), t, CLASSES[t], split, split, split, np.full(1, 100.0), np.full(1, 50.0))
        )
    network = networks.make(c, (side, side, 1), CLASSES)
    return c, tasks, network, approaches.make(c, network)


@pytest.mark.parametrize(
    "approach, name",
    [
        ("hat", "mlp"), ("sgd", "mlp"), ("progressive", "mlp"), ("pathnet", "mlp"),
        ("hat", "alexnet"), ("hat", "vit"),
        pytest.param("hat", "resnet18", marks=pytest.mark.slow),  # it compiles for long
    ],
)  # fmt: skip
def test_one_compilation_serves_all_tasks_and_nothing_is_transferred(approach, name):
    c, tasks, _, method = setup(approach, name)
    program, hyper = train.compile(c, method), train.hyperparameters(c)
    key = jax.random.key(0)
    params, memory = program.init(key)
    length = feed.capacity(tasks, "train", c.batch)
    tests = feed.capacity(tasks, "test", c.eval_batch)
    turns = [jax.device_put(feed.turn(tasks, t)) for t in range(len(tasks))]
    for t, turn in enumerate(turns):
        data, test = (
            feed.put(tasks, t, "train", length),
            feed.put(tasks, t, "test", tests),
        )
        state = program.begin(params, memory, turn, key, hyper)
        with jax.transfer_guard("disallow"):
            for _ in range(2):
                state, scores = program.epoch(state, data, test, turn, hyper)
        params, memory = program.end(state, data, turn, hyper)
        for u in range(t + 1):
            data = feed.put(tasks, u, "test", tests)
            program.evaluate(params, memory, data, turns[u], hyper)
    assert program.epoch._cache_size() == 1
    assert program.begin._cache_size() == 1
    assert program.end._cache_size() == 1
    assert program.evaluate._cache_size() == 1


def test_epoch_is_the_loop_written_plainly():
    """The compiled pass over a padded split with a ragged last batch, against single steps."""
    c, tasks, network, method = setup("hat")
    c.network.dropout = 0.0
    network = networks.make(c, (4, 4, 1), CLASSES)
    method = approaches.make(c, network)
    hyper, key, t = train.hyperparameters(c), jax.random.key(3), 1
    params, memory = method.init(key)
    data = feed.put(tasks, t, "train", 40)
    order = feed.shuffle(key, data)
    n = SIZES[t]
    np.testing.assert_array_equal(np.sort(order[:n]), np.arange(n))
    turn = feed.turn(tasks, t)
    schedule = plateau.start(c.lr, c.lr_patience, params)
    at = train.evaluation_step(turn, hyper)
    optimizer = train.moments(method, rows.take(params, t), memory, at)
    state = State(params, memory, optimizer, schedule, key)
    after, losses, _ = train.run_steps(c, method, state, data, order, turn, key, hyper)

    x, y = tasks[t].train.x, tasks[t].train.y
    batches = [np.asarray(order[i : min(i + 8, n)]) for i in range(0, n, 8)]
    for b, index in enumerate(batches):
        batch = feed.Batch(
            (jnp.asarray(x[index], jnp.float32) - 100) / 50,
            jnp.asarray(y[index]),
            jnp.full(len(index), t),
            jnp.ones(len(index)),
        )
        lr = jnp.float32(c.lr * len(index) / 8)  # every example counts the same
        step = train.Step(t, t, jnp.float32(b / (len(batches) - 1)), lr, None, hyper)
        own = rows.take(params, t)
        own, _, loss, _ = train.train_step(method, own, memory, optimizer, batch, step)
        params = rows.put(params, own, t)
        np.testing.assert_allclose(loss, losses[b], rtol=1e-5)
    assert (losses[len(batches) :] == 0).all()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, after.params)


@pytest.mark.parametrize("fidelity, last", [("paper", 1.0), ("code", 32 / 33)])
def test_progress(fidelity, last):
    c = setup()[0]
    c.fidelity = fidelity
    count, n = 5, 33
    got = [float(train.progress(c, jnp.int32(i), count, n)) for i in range(count)]
    assert got[0] == 0 and got[-1] == pytest.approx(last) and np.allclose(np.diff(got), got[1])


def test_an_epoch_of_one_batch_trains_hard_gates():
    assert float(train.progress(setup()[0], jnp.int32(0), 1, 8)) == 1.0


def test_rows_come_back():
    network = setup()[2]
    params = network.init(jax.random.key(0))
    own = rows.take(params, 1)
    assert own["head"]["kernel"].shape[0] == 1 and own["gates"]["fc1"].shape == (1, 6)
    back = rows.put(params, own, 1)
    jax.tree.map(np.testing.assert_array_equal, params, back)
    x = jnp.ones((2, 4, 4, 1))
    whole = network.apply(params, x, 1, jnp.float32(3))
    alone = network.apply(own, x, 1, jnp.float32(3))
    np.testing.assert_array_equal(whole.logits, alone.logits)


def test_heads_by_example_and_beyond_the_classes():
    network = setup()[2]
    params, s = network.init(jax.random.key(0)), jnp.float32(2)
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))
    assert np.isneginf(network.apply(params, x, 0, s).logits[:, 2]).all()
    assert np.isfinite(network.apply(params, x, 1, s).logits).all()
