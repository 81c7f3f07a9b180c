"""HAT's equations, each against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import transforms
from hatjax.approaches.hat import sparsity
from hatjax.networks.gates import sigmoid
from hatjax.types import Step

HYPER = {"s_max": 400.0, "cosh_max": 50.0, "e_max": 6.0, "clip": 1.0}


def step(progress=0.5, lr=0.1, **hyper) -> Step:
    numbers = {k: jnp.float32(v) for k, v in {**HYPER, **hyper}.items()}
    return Step(jnp.int32(1), jnp.int32(1), jnp.float32(progress), jnp.float32(lr), None, numbers)


def apply(transform, updates, params=None, memory=None, at=None):
    state = transform.init(params)
    return transform.update(updates, state, params, memory=memory, step=at or step())[0]


def test_protect_is_equation_2():
    a = {"c": jnp.array([0.0, 0.3]), "f": jnp.array([1.0, 0.5, 0.0])}
    axes = {"c": (None, "c"), "f": ("c", "f"), "b": ("f",)}
    g = {"c": jnp.ones((5, 2)), "f": jnp.ones((4, 3)), "b": jnp.ones(3)}  # f: 2 x 2 pixels of c
    updates = {"trunk": g, "gates": {}, "head": jnp.ones(2)}
    got = apply(transforms.protect(axes), updates, memory={"past": a})
    np.testing.assert_allclose(got["trunk"]["b"], [0, 0.5, 1])
    np.testing.assert_allclose(got["trunk"]["c"], np.tile([1, 0.7], (5, 1)), rtol=1e-6)
    for i in range(4):
        for j in range(3):
            want = 1 - min(float(a["f"][j]), float(a["c"][i % 2]))
            assert float(got["trunk"]["f"][i, j]) == pytest.approx(want)
    np.testing.assert_array_equal(got["head"], updates["head"])


def test_compensation_undoes_annealing():
    """What reaches an embedding is dL/da s_max sigmoid'(e), whatever s was (|s e| <= 50)."""
    e = {"gates": {"l": jnp.linspace(-0.12, 0.12, 7)}}
    for progress in (0.0, 0.3, 1.0):
        at = step(progress)
        s = transforms.anneal(at.progress, at.hyper["s_max"])
        q = jax.grad(lambda e, s=s: jnp.sum(sigmoid(s * e)))(e["gates"]["l"])
        got = apply(transforms.compensate(), {"gates": {"l": q}}, e, at=at)["gates"]["l"]
        want = 400 / (2 * (np.cosh(e["gates"]["l"]) + 1))
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_stable_gate_can_close():
    """dy/dx of an open gate equals that of the closed one; the usual float32 derivative is 0."""
    slope = jax.vmap(jax.grad(sigmoid))(jnp.array([30.0, -30.0]))
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6)
    assert slope[0] > 0
    assert jax.grad(jax.nn.sigmoid)(30.0) == 0


def test_sparsity_is_the_share_of_free_units():
    past = {"l": jnp.array([1.0, 0.0, 0.5])}
    gates = {"l": jnp.array([1.0, 1.0, 0.4])}
    assert float(sparsity(gates, past)) == pytest.approx((1 + 0.4 * 0.5) / 1.5)
    full = {"l": jnp.ones(3)}
    assert float(sparsity(gates, full)) == 0
    assert np.isnan(sparsity(gates, full, "code"))
    slope = jax.grad(lambda g: sparsity(g, full))(gates)["l"]
    assert np.isfinite(slope).all()


def test_clip_and_descend():
    g = {"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}
    got = apply(transforms.clip(), g)
    np.testing.assert_allclose(transforms.global_norm(got), 1, rtol=1e-6)
    same = apply(transforms.clip(), g, at=step(clip=6.0))
    jax.tree.map(np.testing.assert_array_equal, same, g)
    zero = apply(transforms.clip(), jax.tree.map(jnp.zeros_like, g))
    assert all((x == 0).all() for x in jax.tree.leaves(zero))
    np.testing.assert_allclose(apply(transforms.descend(), g)["a"], -0.3, rtol=1e-6)


def test_embeddings_stay_in_range():
    e = {"gates": {"l": jnp.array([5.9, -5.9, 0.1])}}
    u = {"gates": {"l": jnp.array([1.0, -1.0, 0.2])}}
    moved = apply(transforms.keep_embeddings(), u, e)["gates"]["l"] + e["gates"]["l"]
    np.testing.assert_allclose(moved, [6, -6, 0.3], rtol=1e-6)


def test_annealing_is_equation_3():
    assert float(transforms.anneal(0.0, 400.0)) == pytest.approx(1 / 400)
    assert float(transforms.anneal(1.0, 400.0)) == pytest.approx(400)
