"""Approaches that keep examples: the reservoir, and what ER, DER++ and A-GEM do with it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hatjax import approaches, config, errors, networks
from hatjax.approaches import agem, derpp, er
from hatjax.data import feed
from hatjax.networks import rows
from hatjax.training import replay, train
from hatjax.types import Batch
from tests.test_contract import ROWS, feeds, setup
from tests.test_past import small
from tests.test_properties import at, close

KEY = jax.random.key(0)
NAMES = ("er", "derpp", "agem")


def batch_of(first: int, size: int, weight=None) -> Batch:
    """Examples first, first + 1, ..., whose image, label and task are their number."""
    number = jnp.arange(first, first + size)
    weight = jnp.ones(size) if weight is None else jnp.asarray(weight, jnp.float32)
    return Batch(number.astype(jnp.float32).reshape(-1, 1, 1, 1), number, number, weight)


def filled(size: int, batches: list[Batch], key) -> replay.Buffer:
    buffer = replay.empty(size, (1, 1, 1))
    for i, batch in enumerate(batches):
        buffer = replay.add(buffer, batch, jax.random.fold_in(key, i))
    return buffer


def test_every_example_has_the_same_chance_to_be_kept():
    """30 examples in batches of 7, 7, 7, 9 for 6 places, 4000 times: 1/5 within 5 deviations."""
    batches = [batch_of(0, 7), batch_of(7, 7), batch_of(14, 7), batch_of(21, 9)]
    keys = jax.random.split(KEY, 4000)
    kept = jax.jit(jax.vmap(lambda key: filled(6, batches, key)))(keys)
    assert (kept.count == 30).all()
    np.testing.assert_array_equal(kept.x[..., 0, 0, 0], kept.y)
    np.testing.assert_array_equal(kept.task, kept.y)
    assert (np.diff(np.sort(kept.y, axis=1), axis=1) > 0).all()  # none is there twice
    shares = np.bincount(np.ravel(kept.y), minlength=30) / len(keys)
    assert np.abs(shares - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / len(keys)), shares
    both = np.mean((kept.y == 0).any(1) & (kept.y == 29).any(1))  # 6/30 5/29
    assert abs(both - 1 / 29) < 5 * np.sqrt(1 / 29 / len(keys))


def test_what_pads_a_batch_is_not_kept():
    buffer = filled(4, [batch_of(0, 3, [1, 0, 1]), batch_of(3, 3, [0, 0, 0])], KEY)
    assert buffer.count == 2 and buffer.y.tolist() == [0, 2, 0, 0]


def test_a_draw_is_of_some_places_and_has_none_twice():
    buffer = filled(6, [batch_of(0, 5)], KEY)
    among = replay.older(buffer, 2)
    assert among.tolist() == [True, True, False, True, True, False]  # the last is free
    drawn, place = jax.vmap(lambda key: replay.draw(buffer, among, 3, key))(
        jax.random.split(KEY, 3000)
    )
    assert (drawn.weight == 1).all() and not (drawn.y == 2).any()
    np.testing.assert_array_equal(drawn.y, place)
    shares = np.bincount(np.ravel(drawn.y), minlength=5) / 3000
    np.testing.assert_allclose(shares, [0.75, 0.75, 0, 0.75, 0.75], atol=0.04)
    few, _ = replay.draw(buffer, among, 6, KEY)
    assert sorted(few.y[few.weight > 0].tolist()) == [0, 1, 3, 4] and few.weight.shape == (6,)


def test_a_gem_projects_by_hand():
    g = {"a": jnp.array([1.0]), "b": jnp.array([-2.0])}
    along = {"a": jnp.array([1.0]), "b": jnp.array([-1.0])}  # g.ref = 3
    jax.tree.map(np.testing.assert_array_equal, agem.project(g, along), g)
    ref = {"a": jnp.array([1.0]), "b": jnp.array([2.0])}  # g.ref = -3, ref.ref = 5
    got = agem.project(g, ref)  # g + 3/5 ref
    np.testing.assert_allclose([*got["a"], *got["b"]], [1.6, -0.8], rtol=1e-6)


def test_without_a_reference_the_gradient_stays():
    g = {"a": jnp.array([1.0, -2.0])}
    np.testing.assert_array_equal(agem.project(g, jax.tree.map(jnp.zeros_like, g))["a"], g["a"])


def remembered(name: str):
    """An approach without dropout after two tasks of which it keeps examples; its third task."""
    c, tasks, _, _ = setup(name)
    c.network.dropout, c.approach.buffer, c.approach.replay = 0.0, 9, 5
    network = networks.make(c, (4, 4, 1), (3, 2, 2))
    approach = approaches.make(c, network)
    params, memory = approach.init(KEY)
    for t in range(2):
        data = feeds(c, tasks, approach)[t]
        batch = feed.batch(data, None, 0, 8)
        _, memory = approach.begin_task(params, memory, at(c, t, KEY))
        memory = approach.observe(memory, None, batch, at(c, t, jax.random.key(t)))
        params = jax.tree.map(lambda p: 1.01 * p, params)
        params, memory = approach.end_task(params, memory, None, at(c, t, KEY))
    assert {*memory["buffer"].task.tolist()} == {*ROWS[:2]}
    data = feed.batch(feeds(c, tasks, approach)[2], None, 0, 8)
    params = jax.tree.map(lambda p: 0.9 * p, params)
    return c, network, approach, params, memory, data


def entropies(network, params, batch) -> list[float]:
    """The cross-entropy of each real example at the head of its task, one by one."""
    found = []
    for x, y, task, weight in zip(*batch, strict=True):
        if weight > 0:
            logits = network.apply(params, x[None], task).logits[0]
            found.append(-jax.nn.log_softmax(logits)[y])
    return [float(v) for v in found]


def test_er_is_the_mean_over_new_and_kept_examples():
    c, network, approach, params, memory, batch = remembered("er")
    step = at(c, 2, KEY)
    got, _ = approach.loss(params, memory, batch, step)
    old, _ = er.drawn(c, memory, step.task, step.key)
    assert old.weight.sum() == 5
    every = entropies(network, params, batch) + entropies(network, params, old)
    assert len(every) == 13 and got == pytest.approx(np.mean(every), rel=1e-5)
    plain, _ = approach.loss(params, memory, batch, at(c, 2))  # in evaluation: of the task alone
    assert plain == pytest.approx(np.mean(every[:8]), rel=1e-5)


def test_der_has_two_terms():
    c, network, approach, params, memory, batch = remembered("derpp")
    step = at(c, 2, KEY)
    got, _ = approach.loss(params, memory, batch, step)
    first, second = jax.random.split(jax.random.fold_in(step.key, er.DRAWING))
    old, place = er.drawn(c, memory, step.task, first)
    off = []
    for x, task, z in zip(old.x, old.task, memory["logits"][place], strict=True):
        classes = network.classes[int(task)]
        h = network.apply(params, x[None], task).logits[0, :classes]
        off.append(np.mean(np.square(h - z[:classes])))
    labels, _ = er.drawn(c, memory, step.task, second)
    want = np.mean(entropies(network, params, batch))
    want += 0.1 * np.mean(off) + 0.5 * np.mean(entropies(network, params, labels))
    assert got == pytest.approx(want, rel=1e-5) and np.mean(off) > 1e-6
    np.testing.assert_allclose(  # by hand: a third class is beyond the task's
        derpp.distance(jnp.array([[1.0, 3.0, -jnp.inf]]), jnp.array([[2.0, 0.0, 7.0]])), [5.0]
    )


def test_der_remembers_the_logits_with_which_a_task_ended():
    """Those of its own examples alone: of earlier tasks those of then."""
    c, network, approach, params, memory, batch = remembered("derpp")
    buffer, before = memory["buffer"], memory["logits"]
    _, memory = approach.begin_task(params, memory, at(c, 2, KEY))
    memory = approach.observe(memory, None, batch, at(c, 2, jax.random.key(5)))
    _, after = approach.end_task(params, memory, None, at(c, 2, KEY))
    tasks = np.asarray(memory["buffer"].task)
    mine = tasks == ROWS[2]
    assert 0 < mine.sum() < 9
    np.testing.assert_array_equal(after["logits"][~mine], before[~mine])
    np.testing.assert_array_equal(tasks[~mine], buffer.task[~mine])
    x = memory["buffer"].x[mine]
    want = network.apply(params, x, ROWS[2]).logits
    np.testing.assert_allclose(after["logits"][mine][:, :2], want[:, :2], rtol=1e-5, atol=1e-6)


def test_a_gem_takes_the_reference_over_what_tasks_share():
    c, network, approach, params, memory, batch = remembered("agem")
    step = at(c, 2, KEY)
    own = approach.take(params, memory, step)
    _, grads = train.gradient(approach, own, memory, batch, step)
    old, _ = er.drawn(c, memory, step.task, step.key)

    def loss(trunk):
        logits = network.apply(own | {"trunk": trunk}, old.x, old.task).logits
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, old.y))

    ref = jax.grad(loss)(own["trunk"])
    against = jax.tree.map(lambda g: -g, ref) | {"fc2": grads["trunk"]["fc2"]}
    for trunk in (grads["trunk"], against):
        got = approach.redirect(grads | {"trunk": trunk}, own, memory, step)
        g, r = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (trunk, ref))
        want = g - min(0, g @ r) / (r @ r) * r
        have = np.concatenate([np.ravel(x) for x in jax.tree.leaves(got["trunk"])])
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)
        close(got["head"], grads["head"])
    assert g @ r < 0 and abs(have @ r) < 1e-4 * np.abs(r).sum()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_task_is_that_of_sgd(name):
    """Nothing is replayed, though its examples are kept: the same numbers, epoch after epoch."""
    found = []
    for which in (name, "sgd"):
        c, tasks, _, approach = setup(which)
        data, turn = feeds(c, tasks, approach)[0], feed.turn(tasks, 0)
        program, hyper = train.compile(c, approach), train.hyperparameters(c)
        state = program.begin(*program.init(KEY), turn, KEY, hyper)
        for _ in range(2):
            state, scores = program.epoch(state, data, data, turn, hyper)
        found.append((scores["losses"], rows.take(state.params, turn.task)))
    close(*found)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_fills_the_buffer_in_its_first_epoch(name):
    """And not by an epoch whose loss is no number, which is taken back."""
    c, tasks, _, approach = setup(name)
    c.on_nan = "lower"
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    data, turn = feeds(c, tasks, approach)[0], feed.turn(tasks, 0)
    state = program.begin(*program.init(KEY), turn, KEY, hyper)
    bad = data._replace(mean=data.mean * jnp.nan)
    state, scores = program.epoch(state, bad, bad, turn, hyper)
    assert scores["failed"] and state.memory["buffer"].count == 0
    state, scores = program.epoch(state, data, data, turn, hyper)
    assert not scores["failed"] and state.memory["buffer"].count == 21
    kept = jax.device_get(state.memory["buffer"])
    state, _ = program.epoch(state, data, data, turn, hyper)
    jax.tree.map(np.testing.assert_array_equal, kept, jax.device_get(state.memory["buffer"]))
    x = np.sort(kept.x[:21].reshape(21, -1), axis=0)
    want = (np.asarray(tasks[0].train.x, np.float32).reshape(21, -1) - 128) / 64
    np.testing.assert_allclose(x, np.sort(want, axis=0), rtol=1e-6)
    assert (kept.task[:21] == ROWS[0]).all()


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
@pytest.mark.parametrize("name", [*NAMES, "lwf"])
def test_heads_move_only_where_they_are_trained(name, optimizer):
    """On a network with batch norms, which all tasks share. LwF trains the heads of the past, too.
    Rows: an earlier task, the task, a task to come."""
    c, tasks, network, approach = small("convnet", optimizer, approach=name)
    if name != "lwf":
        c.approach.buffer = 12
    approach = approaches.make(c, network)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    params, memory = program.init(KEY)
    heads = []
    for t in (0, 1):
        data, turn = feed.put(tasks, t, "train", 32), feed.turn(tasks, t)
        state = program.begin(params, memory, turn, KEY, hyper)
        for _ in range(2):
            state, scores = program.epoch(state, data, data, turn, hyper)
            assert not scores["failed"]
        params, memory = program.end(state, data, turn, hyper)
        heads.append(np.asarray(params["head"]["kernel"]))
    moved = [bool(np.any(a != b)) for a, b in zip(*heads, strict=True)]
    assert moved == [name != "agem", True, False]
    for part in (params["norms"], params["stats"]):
        assert all(np.ptp(np.asarray(p), axis=0).max() == 0 for p in jax.tree.leaves(part))


def test_a_buffer_that_the_memory_does_not_hold_is_refused():
    c = config.make("cifar", "er")
    network = networks.make(c, (32, 32, 3), (2,))
    with pytest.raises(errors.InputError, match="config.approach.buffer = 1000000000: "):
        c.approach.buffer = 10**9  # beyond the range, which is checked before
        approaches.make(c, network)
    with pytest.raises(errors.InputError, match="config.approach.buffer = 1000000000: expected"):
        config.check(c)
    with pytest.raises(errors.InputError, match="does not tell their shape"):
        approaches.make(config.make("cifar", "er"), network._replace(image=()))
