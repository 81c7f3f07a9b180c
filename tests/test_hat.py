"""HAT's equations, each against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hatjax as hj
from hatjax import hat, protection

S_MAX = 400.0


def test_the_gradient_mask_is_equation_2():
    a = {"c": jnp.array([0.0, 0.3]), "f": jnp.array([1.0, 0.5, 0.0])}
    net = {"c": jnp.ones((5, 2)), "f": jnp.ones((4, 3)), "b": jnp.ones(3)}  # f: 2 x 2 pixels of c
    axes = hj.axes(net, {"c": (None, "c"), "f": ("c", "f"), "b": ("f",)})
    got = protection.shares(a, 0, axes, net)
    np.testing.assert_allclose(got["b"], [0, 0.5, 1])
    np.testing.assert_allclose(jnp.broadcast_to(got["c"], (5, 2)), np.tile([1, 0.7], (5, 1)))
    for i in range(4):
        for j in range(3):
            want = 1 - min(float(a["f"][j]), float(a["c"][i % 2]))
            assert float(got["f"][i, j]) == pytest.approx(want)


def test_a_flatten_of_channels_first_repeats_each_unit():
    net = {"w": jnp.ones((6, 1)), "first": jnp.ones((6, 1)), "c": jnp.ones(2)}
    rules = {"w": ("c", None), "first": (("c", None), None), "c": ("c",)}
    got = protection.shares({"c": jnp.array([1.0, 0.0])}, 0, hj.axes(net, rules), net)
    np.testing.assert_array_equal(got["w"][:, 0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_array_equal(got["first"][:, 0], [0, 0, 0, 1, 1, 1])


def test_compensation_undoes_annealing():
    """What reaches an embedding is dL/da s_max sigmoid'(e), whatever s was (|s e| <= 50)."""
    e = jnp.linspace(-0.12, 0.12, 7)
    for progress in (0.0, 0.3, 1.0):
        s = hj.anneal(progress, S_MAX)
        q = jax.grad(lambda e, s=s: jnp.sum(hat.exact_sigmoid(s * e)))(e)
        got = hat.compensate(q, e, s, S_MAX, 50.0)
        np.testing.assert_allclose(got, S_MAX / (2 * (np.cosh(e) + 1)), rtol=1e-4)


def test_stable_gate_can_close():
    """dy/dx of an open gate equals that of the closed one; the usual float32 derivative is 0."""
    slope = jax.vmap(jax.grad(hat.exact_sigmoid))(jnp.array([30.0, -30.0]))
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6)
    assert slope[0] > 0
    assert jax.grad(jax.nn.sigmoid)(30.0) == 0


def test_binary_gates_are_exactly_0_or_1():
    e = {"l": jnp.array([[0.001, -0.001, 6.0], [0.5, -0.5, 0.0]])}
    sharp = hj.hat.binarise(e, 0)
    np.testing.assert_array_equal(sharp["l"][0], [6, -6, 6])
    np.testing.assert_array_equal(sharp["l"][1], e["l"][1])
    np.testing.assert_array_equal(hj.gate(sharp, 0, S_MAX)["l"], [1, 0, 1])


def test_other_shapes_of_annealing():
    progress = jnp.linspace(0, 1, 5)
    line, wave, dip = (hj.anneal(progress, S_MAX, shape) for shape in ("linear", "cosine", "dip"))
    np.testing.assert_allclose(wave[jnp.array([0, 2, 4])], line[jnp.array([0, 2, 4])], rtol=1e-5)
    assert wave[1] < line[1] and wave[3] > line[3]
    half = (S_MAX + 1 / S_MAX) / 2
    np.testing.assert_allclose(dip, [S_MAX, half, 1 / S_MAX, half, S_MAX], rtol=1e-5)
    with pytest.raises(ValueError, match="expected one of linear, cosine, dip"):
        hj.anneal(0.5, S_MAX, "quick")


def test_gates_are_equation_1():
    e = {"l": jnp.array([[0.1, -0.2], [0.3, 0.0]])}
    np.testing.assert_allclose(hj.gate(e, 1, 2.0)["l"], [1 / (1 + np.exp(-0.6)), 0.5], rtol=1e-6)
    traced = jax.jit(lambda t: hj.gate(e, t, 2.0))(jnp.int32(0))
    np.testing.assert_allclose(traced["l"], 1 / (1 + np.exp([-0.2, 0.4])), rtol=1e-6)


def test_gates_start_as_they_are_asked_to():
    key, units = jax.random.key(0), {"a": 400, "b": 300}
    normal = hj.init_gates(key, units, 5)
    assert {k: e.shape for k, e in normal.items()} == {"a": (5, 400), "b": (5, 300)}
    assert abs(float(normal["a"].std()) - 1) < 0.05 and float(normal["a"].min()) < -2
    opened = hj.init_gates(key, units, 5, start="uniform")
    assert float(opened["a"].min()) >= 0 and 1.9 < float(opened["a"].max()) <= 2
    own = hj.init_gates(key, units, 5, start=lambda key, shape: jnp.full(shape, 3.0))
    assert (own["b"] == 3).all()
    with pytest.raises(ValueError, match="'closed'.*normal, uniform"):
        hj.init_gates(key, units, 5, start="closed")
    with pytest.raises(ValueError, match="at least 1"):
        hj.init_gates(key, {"a": 0}, 5)


def test_sparsity_is_the_share_of_free_units():
    past = {"l": jnp.array([1.0, 0.0, 0.5])}
    gates = {"l": jnp.array([1.0, 1.0, 0.4])}
    assert float(hj.sparsity(gates, past)) == pytest.approx((1 + 0.4 * 0.5) / 1.5)
    full = {"l": jnp.ones(3)}
    assert float(hj.sparsity(gates, full)) == 0
    assert np.isnan(hj.sparsity(gates, full, jnp.nan))
    slope = jax.grad(lambda g: hj.sparsity(g, full))(gates)["l"]
    assert np.isfinite(slope).all()


def test_the_past_is_the_largest_gate_so_far():
    past = hj.no_past(hj.init_gates(jax.random.key(0), {"l": 3}, 2))
    np.testing.assert_array_equal(past["l"], np.zeros(3))
    past = hj.accumulate(past, {"l": jnp.array([0.2, 1.0, 0.0])})
    past = hj.accumulate(past, {"l": jnp.array([0.1, 0.5, 0.7])})
    np.testing.assert_array_equal(past["l"], np.float32([0.2, 1.0, 0.7]))


def test_annealing_is_equation_3():
    assert float(hj.anneal(0.0, 400.0)) == pytest.approx(1 / 400)
    assert float(hj.anneal(1.0, 400.0)) == pytest.approx(400)


def small(classes: int = 3):
    """A dense layer of three units behind the gate "f", and a head for each of two tasks."""
    net = {"w": jnp.ones((4, 3)), "b": jnp.zeros(3), "head": jnp.ones((2, 3, classes))}
    axes = hj.axes(net, {"w": (None, "f"), "b": ("f",), "head": hj.PER_TASK})
    gates = hj.init_gates(jax.random.key(0), {"f": 3}, 2)
    return net, axes, {"f": 0.01 * gates["f"]}


def test_the_step_of_plain_sgd_is_the_published_one():
    net, axes, gates = small()
    params, past = {"net": net, "gates": gates}, {"f": jnp.array([0.0, 0.5, 1.0])}
    grads = jax.tree.map(lambda p: jnp.full(p.shape, 3.0), params)
    s, t = 20.0, 1
    q = 3.0 * (S_MAX / s) * (np.cosh(np.clip(s * gates["f"][t], -50, 50)) + 1)
    q = q / (np.cosh(gates["f"][t]) + 1)
    free = np.float32([1, 0.5, 0])
    norm = np.sqrt(4 * np.sum((3 * free) ** 2) + np.sum((3 * free) ** 2) + 9 * 9 + np.sum(q**2))
    for clip, scale in ((None, 1.0), (1e9, 1.0), (0.25, 0.25 / norm)):
        tx = hj.optimizer(optax.sgd(0.1), axes, clip=clip)
        updates, _ = tx.update(grads, tx.init(params), params, past=past, s=s, task=t)
        new = optax.apply_updates(params, updates)
        want = 1 - 0.1 * 3 * scale * np.tile(free, (4, 1))
        np.testing.assert_allclose(new["net"]["w"], want, rtol=1e-5)
        np.testing.assert_allclose(new["net"]["b"], -0.1 * 3 * scale * free, rtol=1e-5)
        np.testing.assert_array_equal(new["net"]["head"][0], net["head"][0])
        np.testing.assert_allclose(new["net"]["head"][1], 1 - 0.1 * 3 * scale, rtol=1e-5)
        np.testing.assert_array_equal(new["gates"]["f"][0], gates["f"][0])
        moved = np.clip(gates["f"][1] - 0.1 * scale * q, -6, 6)
        np.testing.assert_allclose(new["gates"]["f"][1], moved, rtol=1e-4)


OPTIMIZERS = {
    "sgd": optax.sgd(0.01),
    "momentum": optax.sgd(0.01, momentum=0.9),
    "nesterov": optax.sgd(0.01, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.01),
    "adamw": optax.adamw(0.01, weight_decay=0.05),
    "lion": optax.lion(0.01, weight_decay=0.05),
    "rmsprop": optax.rmsprop(0.01, momentum=0.9),
    "adagrad": optax.adagrad(0.01),
}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_moves_weights_as_far_as_they_are_free(name, clip):
    """20 steps of a constant gradient: a = 1 moves not at all, a = 0.9 a tenth of a = 0."""
    net, axes, gates = small()
    gates = jax.tree.map(jnp.zeros_like, gates)  # where nothing has to be compensated at s_max
    params, past = {"net": net, "gates": gates}, {"f": jnp.array([0.0, 0.9, 1.0])}
    grads = jax.tree.map(jnp.ones_like, params)
    tx = hj.optimizer(OPTIMIZERS[name], axes, clip=clip)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params, past=past, s=S_MAX, task=0)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=20)[0]

    after, state = run(params)
    moved = np.asarray(after["net"]["w"] - net["w"])
    assert (moved[:, 0] < -0.001).all()
    np.testing.assert_allclose(moved[:, 1], 0.1 * moved[:, 0], rtol=0.02)
    np.testing.assert_array_equal(moved[:, 2], 0)
    np.testing.assert_array_equal(after["net"]["head"][1], net["head"][1])
    np.testing.assert_array_equal(after["gates"]["f"][1], gates["f"][1])
    assert (after["gates"]["f"][0] < gates["f"][0]).all()
    for leaf in jax.tree.leaves(state):  # what is held enters no moments
        if leaf.shape == (4, 3) and name != "adagrad":  # which begins at 0.1
            assert (leaf[:, 2] == 0).all() and (leaf[:, 0] != 0).all()


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_update_that_is_not_a_number_moves_nothing_that_is_held(clip):
    """A gradient that is NaN, under an optimizer that mixes all; 0 / 0 of Adam without epsilon."""
    net, axes, gates = small()
    params, past = {"net": net, "gates": gates}, {"f": jnp.array([0.0, 0.0, 1.0])}
    grads = jax.tree.map(jnp.ones_like, params)
    bad = grads | {"net": grads["net"] | {"w": grads["net"]["w"].at[0, 0].set(jnp.nan)}}
    mixing = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))
    for inner, given in ((mixing, bad), (optax.adam(0.01, eps=0), grads)):
        tx = hj.optimizer(inner, axes, clip=clip)
        updates, _ = tx.update(given, tx.init(params), params, past=past, s=1.0, task=1)
        assert (updates["net"]["w"][:, 2] == 0).all() and updates["net"]["b"][2] == 0
        assert (updates["net"]["head"][0] == 0).all() and (updates["gates"]["f"][0] == 0).all()
        if clip and inner is mixing:  # as if there were no gradient
            assert all(jnp.isfinite(u).all() for u in jax.tree.leaves(updates))


def test_the_clipping_norm_of_complex_numbers():
    tree = {"z": jnp.array([3 + 4j, 12j]), "x": jnp.array([0.0])}
    assert float(protection.global_norm(tree)) == pytest.approx(13)


def test_the_clipping_norm_is_that_of_what_is_free():
    """Held gradients do not count in it; where it overflows, nothing moves, or it cannot be missed.
    """
    net, axes, gates = small()
    params, past = {"net": net, "gates": gates}, {"f": jnp.array([0.0, 0.0, 1.0])}

    def step(held: float, free: float, overflow: float = 0.0) -> np.ndarray:
        tx = hj.optimizer(optax.sgd(0.1), axes, clip=1.0, overflow=overflow)
        grads = jax.tree.map(jnp.ones_like, params)
        grads["net"]["w"] = grads["net"]["w"] * jnp.array([[free, free, held]])
        updates, _ = tx.update(grads, tx.init(params), params, past=past, s=S_MAX, task=0)
        return np.asarray(updates["net"]["w"])

    np.testing.assert_array_equal(step(1e10, 1.0), step(0.0, 1.0))
    assert (step(1e10, 1.0)[:, :2] < 0).all()
    assert (step(0.0, 1e30) == 0).all()
    lost = step(0.0, 1e30, np.nan)
    assert np.isnan(lost[:, :2]).all() and (lost[:, 2] == 0).all()


def test_embeddings_may_have_an_optimizer_of_their_own():
    net, axes, gates = small()
    params = {"net": net, "gates": gates}
    grads = jax.tree.map(jnp.ones_like, params)
    tx = hj.optimizer(optax.adamw(0.1, weight_decay=1.0), axes, gates=optax.sgd(0.01))
    now = dict(past=hj.no_past(gates), s=S_MAX, task=0)
    updates, _ = tx.update(grads, tx.init(params), params, **now)
    alone = hj.optimizer(optax.sgd(0.01), axes)
    want, _ = alone.update(grads, alone.init(params), params, **now)
    np.testing.assert_allclose(updates["gates"]["f"], want["gates"]["f"], rtol=1e-6)
    np.testing.assert_allclose(updates["net"]["w"], -0.1 - 0.1 * net["w"], rtol=1e-4)


def test_embeddings_stay_in_range():
    net, axes, _ = small()
    gates = {"f": jnp.array([[5.9, -5.9, 0.1], [7.0, 0.0, 0.0]])}
    params = {"net": net, "gates": gates}
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["gates"]["f"] = jnp.array([[-10.0, 10.0, -1.0], [0.0, 0.0, 0.0]])
    tx = hj.optimizer(optax.sgd(10.0), axes, s_max=1.0)
    updates, _ = tx.update(grads, tx.init(params), params, past=hj.no_past(gates), s=1.0, task=0)
    new = optax.apply_updates(params, updates)["gates"]["f"]
    assert (abs(new[0]) <= 6).all() and abs(new[0, 0]) == 6
    np.testing.assert_array_equal(new[1], gates["f"][1])  # another task's: not touched


@pytest.mark.parametrize(
    "rules, says",
    [
        ({"w": (None, "f")}, r"parameter b of shape \(3,\) matches no rule"),
        ({"w": ("f",), ".*": hj.PER_TASK}, r"parameter w of shape \(4, 3\) has the rule 'w'"),
        ({"w": "f", ".*": hj.PER_TASK}, r"parameter w of shape \(4, 3\) has the rule 'w': 'f'"),
        ({"w": (None, None), ".*": hj.PER_TASK}, "w of shape .* has no gate by the rule"),
        ({"w": ("f", "f"), "b": ("f",), "head": hj.PER_TASK}, "does not fit its axis . of"),
        ({"w": (None, ("f", "f")), ".*": hj.PER_TASK}, "w of shape .* has the rule"),
    ],
)
def test_rules_that_do_not_cover_the_network_are_errors(rules, says):
    with pytest.raises(ValueError, match=says):
        hj.axes(small()[0], rules)


def test_the_first_rule_that_matches_a_whole_path_counts():
    net = {"a": {"w": jnp.ones((2, 3))}, "aa": {"w": jnp.ones((4, 2))}}
    got = hj.axes(net, {"a/w": (None, "f"), ".*w": ("g", None)})
    assert got == {"a": {"w": (None, "f")}, "aa": {"w": ("g", None)}}


@pytest.mark.parametrize(
    "units, tasks, says",
    [
        ({"f": 2}, 2, r"parameter b of shape \(3,\): the gate 'f' does not fit its axis 0 of 3"),
        ({"g": 3}, 2, "there is no gate 'f'; the gates are g"),
        ({"f": 3, "g": 4}, 2, "the gate 'g' of 4 units lies on no parameter"),
        ({"f": 3}, 5, r"parameter head of shape \(2, 3, 3\) is PER_TASK: expected 5 rows"),
    ],
)
def test_gates_that_do_not_fit_the_axes_are_errors(units, tasks, says):
    net, axes, _ = small()
    gates = hj.init_gates(jax.random.key(0), units, tasks)
    with pytest.raises(ValueError, match=says):
        hj.optimizer(optax.sgd(0.1), axes).init({"net": net, "gates": gates})


def test_what_is_used_and_shared():
    net, axes, _ = small()
    past = {"f": jnp.array([1.0, 0.5, 0.0])}
    got = hj.used(past, axes, net)
    assert float(got["f"]["units"]) == pytest.approx(0.5) == float(got["all"]["units"])
    assert float(got["f"]["weights"]) == pytest.approx(0.5)  # of w and b, not of heads
    tasks = [{"f": jnp.array([1.0, 1, 0])}, {"f": jnp.array([0.0, 1, 0])}, {"f": jnp.zeros(3)}]
    shared = hj.overlap(tasks, axes, net)
    np.testing.assert_allclose(shared, [[1, 0.5, 0], [1, 1, 0], [0, 0, 0]])
