"""Masks over weights: WSN, PackNet and SupSup, each by its own promise, and their parts by hand."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, data, networks
from hatjax.analysis import inference, models
from hatjax.approaches import packnet, supsup
from hatjax.data import feed
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.training import subnetworks, train
from hatjax.training.losses import cross_entropy
from tests.test_past import small

KEY = jax.random.key(0)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_kth_largest(k):
    x = jnp.array([[0.5, 3.0, 1e-30], [3.0, 0.0, 7e20]])
    want = np.sort(np.ravel(x))[::-1][k - 1]
    assert float(jax.jit(subnetworks.kth_largest)(x, k)) == want
    assert float(subnetworks.kth_largest(x, 7)) == 0  # there are six


@pytest.mark.parametrize("size", [2**24, 2**24 + 3])
def test_kth_largest_of_a_large_layer(size):
    """The numbers are counted exactly, also where a float32 could not hold their count."""
    x = np.arange(1, size + 1, dtype=np.int32).view(np.float32)  # ever larger, by one bit
    for k in (3, size - 2):
        found = np.asarray(subnetworks.kth_largest(jnp.asarray(x), k)).view(np.int32)
        assert found == size + 1 - k


def test_top_by_hand():
    s = jnp.array([[0.1, -0.9], [0.5, 0.2]])
    np.testing.assert_array_equal(subnetworks.top(s, 0.5), [[False, True], [True, False]])
    np.testing.assert_array_equal(subnetworks.top(s, 1.0), np.ones((2, 2)))
    np.testing.assert_array_equal(subnetworks.top(s, 1e-9), [[False, True], [False, False]])
    w = jnp.array([[2.0, 3.0], [5.0, 7.0]])
    value, slope = jax.value_and_grad(
        lambda s: jnp.sum(w * subnetworks.straight_through(s, 0.5)) ** 2
    )(s)
    assert value == 64  # (3 + 5)^2
    np.testing.assert_allclose(slope, 2 * 8 * w * jnp.sign(s))  # of those that are out, too


@pytest.mark.parametrize("shape", [(1,), (8,), (3, 3, 2, 5)])
def test_masks_are_packed(shape):
    mask = jax.random.bernoulli(KEY, 0.5, shape)
    packed = subnetworks.pack(mask)
    assert packed.dtype == jnp.uint8 and packed.size == -(-mask.size // 8)
    np.testing.assert_array_equal(subnetworks.unpack(packed, shape), mask)


NETWORKS = ("mlp", "alexnet", "resnet18")
OPTIMIZERS = ("sgd", "adamw")
SHARE = 0.8  # of the weights of these tiny networks, so that no layer is dead


@functools.cache
def learned(name: str, network: str, optimizer: str):
    """Three tasks of three epochs: for each the parameters before it, and after it parameters,
    memory and the logits of all tasks so far."""
    c, tasks, net, approach = small(network, optimizer, approach=name)
    c.lr = min(c.lr, 0.05)  # larger steps leave dead layers
    c.epochs, c.schedule = 3, "constant"  # PackNet prunes after two of them
    if name == "packnet":
        c.approach.prune = 0.5
    else:
        c.approach.c = SHARE
    approach = approaches.make(c, net)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    predict = jax.jit(lambda params, memory, x, u: approach.predict(params, memory, x, u, hyper))
    params, memory = program.init(KEY)
    length = feed.capacity(tasks, "train", c.batch)
    x = (tasks[0].test.x - np.float32(127)) / 74
    ends = []
    for t in range(len(tasks)):
        fed, turn = feed.put(tasks, t, "train", length), feed.turn(tasks, t)
        if name == "wsn":  # so few steps change no mask: let the tasks' masks differ
            scores = subnetworks.draw(jax.random.fold_in(KEY, t), params["trunk"])
            params = params | {"scores": scores}
        state = program.begin(params, memory, turn, jax.random.fold_in(KEY, t), hyper)
        for _ in range(c.epochs):
            state, scores = program.epoch(state, fed, fed, turn, hyper)
            assert not scores["failed"]
        before = params
        params, memory = program.end(state, fed, turn, hyper)
        logits = [np.asarray(predict(params, memory, x, u)) for u in range(t + 1)]
        ends.append((before, params, memory, logits))
    assert program.epoch._cache_size() == 1
    return ends


QUICK = (("mlp", "sgd"), ("mlp", "adamw"), ("alexnet", "sgd"), ("convnet", "adamw"))
CASES = [
    (n, o) if (n, o) in QUICK else pytest.param(n, o, marks=pytest.mark.slow)
    for n in NETWORKS
    for o in OPTIMIZERS
]


@pytest.mark.parametrize("network, optimizer", CASES)
@pytest.mark.parametrize("name", ["wsn", "packnet", "supsup"])
def test_the_past_is_untouched(name, network, optimizer):
    ends = learned(name, network, optimizer)
    for t, (before, after, _, logits) in enumerate(ends):
        for u in range(t):
            np.testing.assert_array_equal(logits[u], ends[u][3][u])
        moved = [
            bool(jnp.any(a != b))
            for a, b in zip(*map(jax.tree.leaves, (before["trunk"], after["trunk"])), strict=True)
        ]
        assert any(moved) == (name != "supsup")  # there was something to protect
    _, params, memory, logits = ends[-1]
    assert not np.array_equal(logits[0], logits[1])
    if name == "supsup":
        for a, b in zip(
            *map(jax.tree.leaves, (ends[0][0]["trunk"], params["trunk"])), strict=True
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", ["mlp", "resnet18"])
def test_wsn_shares_and_holds(network):
    ends = learned("wsn", network, "adamw")
    held = [end[2]["held"] for end in ends]
    masks = ends[-1][2]["masks"]
    for name, s in jax.tree_util.tree_leaves_with_path(ends[-1][1]["scores"]):
        at = functools.partial(functools.reduce, lambda tree, key: tree[key.key], name)
        each = [np.asarray(subnetworks.unpack(at(masks)[t], s.shape)) for t in range(3)]
        assert all(m.sum() == max(1, round(SHARE * m.size)) for m in each)
        if s.size > 50:
            assert (each[0] & each[1]).any() and (each[0] != each[1]).any()
        for t in range(3):
            np.testing.assert_array_equal(at(held[t]) > 0, np.any(each[: t + 1], axis=0))
        # Those that are held do not move, others do.
        w, later = (np.asarray(at(ends[t][1]["trunk"])) for t in (0, 1))
        np.testing.assert_array_equal(w[each[0]], later[each[0]])
        assert s.size < 50 or (w[~each[0]] != later[~each[0]]).any()


def test_wsn_step_by_hand():
    """A weight moves by -lr dL/dw if it is in the mask and not held, a score by -lr w dL/d(w m)."""
    c, tasks, network, approach = small("mlp", approach="wsn")
    fed = feed.put(tasks, 0, "train", feed.capacity(tasks, "train", c.batch))
    batch, hyper = feed.batch(fed, None, 0, c.batch), train.hyperparameters(c)
    params, memory = approach.init(KEY)
    held = jax.tree.map(
        lambda h: jnp.arange(h.size).reshape(h.shape).astype(jnp.uint8) % 2, memory["held"]
    )
    memory = memory | {"held": held}
    step = train.Step(0, 1, jnp.float32(0), jnp.float32(0.1), jax.random.key(1), hyper)
    own = approach.take(params, memory, step)
    masks = jax.tree.map(lambda s: subnetworks.top(s, 0.5), own["scores"])

    def loss(trunk):
        out = network.apply(
            own | {"trunk": trunk}, batch.x, 0, key=step.key, weight=batch.weight
        )
        return cross_entropy(out.logits, batch)

    g = jax.grad(loss)(jax.tree.map(jnp.multiply, own["trunk"], masks))
    new, *_ = train.train_step(
        approach, own, memory, train.moments(approach, own, memory, step), batch, step
    )
    for layer in ("fc1", "fc2"):
        for p in ("kernel", "bias"):
            w, s, m, h, grad = (
                tree[layer][p] for tree in (own["trunk"], own["scores"], masks, held, g)
            )
            got = new["trunk"][layer][p] - w
            np.testing.assert_allclose(got, -0.1 * grad * m * (1 - h), atol=1e-7)
            got = new["scores"][layer][p] - s
            np.testing.assert_allclose(got, -0.1 * grad * w * jnp.sign(s), atol=1e-7)


def test_packnet_prunes_by_hand():
    c, _, _, approach = small("mlp", approach="packnet")
    c.approach.prune = 0.5
    step = train.Step(2, 1, jnp.float32(1), jnp.float32(0), None, train.hyperparameters(c))
    w = jnp.array([[4.0, -3.0, 0.5], [0.1, 9.0, -1.0]])
    owner = jnp.array([[0, 0, 0], [0, 1, 0]], jnp.uint8)  # the weight of 9 is the first task's
    params = {"trunk": {"kernel": w, "bias": jnp.array([1.0, 0.0, 2.0])}}
    memory = {
        "owner": {"kernel": owner, "bias": jnp.ones(3, jnp.uint8)}, "turn": jnp.array([1, 0, 0])
    }  # fmt: skip
    new, after = packnet.prune(params, memory, step)
    # Of five free ones round(2.5) = 2 are given back: 0.1 and 0.5.
    np.testing.assert_array_equal(new["trunk"]["kernel"], [[4, -3, 0], [0, 9, -1]])
    np.testing.assert_array_equal(after["owner"]["kernel"], [[2, 2, 0], [0, 1, 2]])
    np.testing.assert_array_equal(after["owner"]["bias"], [1, 1, 1])  # the first task's
    np.testing.assert_array_equal(after["turn"], [1, 0, 2])
    # Its evaluation uses the first task's weights and its own; the first task's only its own.
    used = packnet.owned(new, after, jnp.int32(0))
    np.testing.assert_array_equal(used["kernel"], [[0, 0, 0], [0, 9, 0]])
    used = packnet.owned(new, after, jnp.int32(2))
    np.testing.assert_array_equal(used["kernel"], [[4, -3, 0], [0, 9, -1]])


@pytest.mark.parametrize("kind", ["plateau", "cosine"])
def test_packnet_trains_then_prunes_then_trains(kind):
    c, tasks, network, _ = small("mlp", approach="packnet")
    c.epochs, c.schedule = 6, kind
    c.approach.retrain = 0.5
    approach = approaches.make(c, network)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    fed = feed.put(tasks, 0, "train", feed.capacity(tasks, "train", c.batch))
    turn = feed.turn(tasks, 0)
    state = program.begin(*program.init(KEY), turn, KEY, hyper)
    turns, rates, weights = [], [], []
    for _ in range(6):
        rates.append(float(state.schedule.lr))
        state, scores = program.epoch(state, fed, fed, turn, hyper)
        turns.append(int(state.memory["turn"][0]))
        weights.append(np.asarray(state.params["trunk"]["fc1"]["kernel"]))
    assert turns == [0, 0, 1, 1, 1, 1]
    assert (weights[1] != 0).all()
    kept = weights[2] != 0
    assert np.isclose(kept.mean(), 0.25, atol=0.01) and (weights[5][~kept] == 0).all()
    assert (weights[5][kept] != weights[2][kept]).any()
    assert float(scores["kept"]) == pytest.approx(0.25, abs=0.1)  # with the biases
    if kind == "cosine":
        np.testing.assert_allclose(rates[:3], rates[3:])
    params, memory = program.end(state, fed, turn, hyper)
    assert int(memory["turn"][0]) == 1


def test_packnet_keeps_owners_in_a_byte():
    c = config.make("digits", "packnet")
    with pytest.raises(InputError, match="at most 255"):
        approaches.make(c, networks.make(c, (4, 4, 1), (2,) * 256))


def test_supsup_weights():
    w = jnp.zeros((3, 3, 4, 5))
    sigma = np.sqrt(2 / 36)
    got = supsup.fixed(KEY, w, "signed_constant")
    np.testing.assert_allclose(jnp.abs(got), sigma, rtol=1e-6)
    assert 0.3 < float((got > 0).mean()) < 0.7
    assert np.isclose(supsup.fixed(KEY, w, "kaiming_normal").std(), sigma, rtol=0.2)
    assert not supsup.fixed(KEY, jnp.ones(7), "signed_constant").any()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    c = config.make("digits", "supsup")
    c.tasks.count, c.epochs, c.network.widths = 3, 8, (100,)
    where = tmp_path_factory.mktemp("supsup") / "run"
    run.run(c, where)
    return models.load(where)


def test_the_task_is_inferred(model):
    x = data.load("digits", Path()).x_test[:100]
    for t in range(3):
        inputs = inference.inputs(model, x, t)
        assert inference.infer_task(model, inputs) == t
        # The shares' slopes are those of the entropy.
        slopes = inference.entropy_slopes(model, inputs)
        alpha = jnp.full(3, 1 / 3)
        got = np.asarray(slopes(alpha))
        params, memory = jax.tree.map(jnp.asarray, (model.params, model.memory))

        def at(alpha, params=params, memory=memory, inputs=inputs):
            shares = jnp.zeros(3).at[np.array(model.rows)].set(alpha)
            even = jnp.full(3, 1 / 3)
            masks = model.approach.superpose(params, memory, shares)
            rest = model.approach.superpose(params, memory, even)
            net = rest | {"trunk": masks["trunk"]}
            return inference.entropy(model.network.apply(net, inputs, 0).logits)

        for u in range(3):
            up, down = (float(at(alpha.at[u].add(h))) for h in (0.01, -0.01))
            np.testing.assert_allclose(got[u], (up - down) / 0.02, rtol=0.05, atol=2e-3)
        assert inference.infer_task(model, inputs, "gradient") == int(np.argmin(got))
        assert inference.infer_task(model, inputs, "binary") in range(3)


def test_what_cannot_be_inferred_is_told(model):
    x = np.zeros((2, 8, 8, 1), np.float32)
    with pytest.raises(InputError, match="how = 'all'"):
        inference.infer_task(model, x, "all")
    with pytest.raises(InputError, match=r"shape \(2, 4, 4, 1\): expected \[n, 8, 8, 1\]"):
        inference.infer_task(model, x[:, :4, :4])
    other = model._replace(network=model.network._replace(classes=(10, 9, 10)))
    with pytest.raises(InputError, match="9, 10 classes"):
        inference.infer_task(other, x)
    none = model._replace(approach=model.approach._replace(superpose=None))
    with pytest.raises(InputError, match="no masks over weights"):
        inference.infer_task(none, x, "gradient")
