"""The library in other people's loops: Flax nnx, Equinox, and the examples as they stand."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import hatjax as hj
from tests.installed import OPTIMISED

ROOT = Path(__file__).parents[1]
S_MAX = 400.0


def learn(params, axes, answer, tasks: int = 3):
    """Train on random labels with AdamW; the past's logits must not move."""
    x, key = jax.random.normal(jax.random.key(1), (8, 6)), jax.random.key(2)
    tx = hj.optimizer(optax.adamw(0.05, weight_decay=0.5), axes, clip=1.0, gates=optax.sgd(0.5))

    @jax.jit
    def step(params, opt, past, task, y, progress):
        s = hj.anneal(progress, S_MAX)

        def loss(params):
            a = hj.gate(params["gates"], task, s)
            z = answer(params["net"], a, x, task)
            entropy = optax.softmax_cross_entropy_with_integer_labels(z, y).mean()
            return entropy + 0.1 * hj.sparsity(a, past)

        updates, opt = tx.update(jax.grad(loss)(params), opt, params, past=past, s=s, task=task)
        return optax.apply_updates(params, updates), opt

    logits = jax.jit(
        lambda p, task: answer(p["net"], hj.gate(p["gates"], task, S_MAX), x, task)
    )
    past, seen = hj.no_past(params["gates"]), []
    for task in range(tasks):
        opt, before = tx.init(params), params
        y = jax.random.randint(jax.random.fold_in(key, task), (8,), 0, 3)
        for i in range(6):
            params, opt = step(params, opt, past, task, y, i / 5)
        assert any(
            jnp.any(p != q)
            for p, q in zip(*map(jax.tree.leaves, (before["net"], params["net"])), strict=True)
        )
        hard = {k: e.at[task].set(6 * jnp.sign(e[task])) for k, e in params["gates"].items()}
        params = {"net": params["net"], "gates": hard}
        past = hj.accumulate(past, hj.gate(hard, task, S_MAX))
        for u, z in enumerate(seen):
            np.testing.assert_array_equal(logits(params, u), z)
        seen.append(np.asarray(logits(params, task)))
    return params, past


def test_equinox():
    class Net(eqx.Module):
        layers: list
        heads: jax.Array

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.layers = [eqx.nn.Linear(6, 8, key=keys[0]), eqx.nn.Linear(8, 7, key=keys[1])]
            self.heads = jax.random.normal(keys[2], (3, 7, 3))

        def __call__(self, x, a, task):
            h = jax.nn.relu(self.layers[0](x)) * a["first"]
            h = jax.nn.relu(self.layers[1](h)) * a["second"]
            return h @ self.heads[task]

    net, rest = eqx.partition(Net(jax.random.key(0)), eqx.is_array)
    axes = hj.axes(net, {
        "layers/0/weight": ("first", None), "layers/0/bias": ("first",),
        "layers/1/weight": ("second", "first"), "layers/1/bias": ("second",),
        "heads": hj.PER_TASK,
    })  # fmt: skip
    gates = hj.init_gates(jax.random.key(3), {"first": 8, "second": 7}, 3)

    def answer(net, a, x, task):
        return jax.vmap(lambda x: eqx.combine(net, rest)(x, a, task))(x)

    params, past = learn({"net": net, "gates": gates}, axes, answer)
    used = hj.used(past, axes, params["net"])
    assert set(used) == {"first", "second", "all"} and 0 < float(used["all"]["weights"]) <= 1


def test_flax_nnx_as_a_state_and_as_a_dict():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.fc1 = nnx.Linear(6, 8, rngs=rngs)
            self.heads = nnx.Param(jax.random.normal(rngs.params(), (3, 8, 3)))

        def __call__(self, x, a, task):
            return nnx.relu(self.fc1(x)) * a["fc1"][None] @ self.heads[task]

    kind, state = nnx.split(Net(nnx.Rngs(0)), nnx.Param)
    rules = {"fc1/kernel": (None, "fc1"), "fc1/bias": ("fc1",), "heads": hj.PER_TASK}
    gates = hj.init_gates(jax.random.key(3), {"fc1": 8}, 3)

    def answer(net, a, x, task):
        return nnx.merge(kind, net)(x, a, task)

    learn({"net": state, "gates": gates}, hj.axes(state, rules), answer)
    plain = nnx.to_pure_dict(state) if hasattr(nnx, "to_pure_dict") else state.to_pure_dict()
    assert hj.axes(plain, rules)["fc1"]["kernel"] == (None, "fc1")


class Attention(eqx.Module):
    query: jax.Array
    value: jax.Array


def test_a_field_called_value():
    """It is a part of a path like any other; nnx has a variable's array under that name."""
    rules = {r"(.*/)?query": (None, "f"), r"(.*/)?value": ("f", None)}
    layer = Attention(jnp.ones((4, 6)), jnp.ones((6, 4)))
    for net in (layer, {"attention": layer}):
        (got,) = jax.tree.leaves(hj.axes(net, rules), is_leaf=lambda a: isinstance(a, Attention))
        assert (got.query, got.value) == ((None, "f"), ("f", None))


def test_a_network_is_probed_in_ones_own_loop():
    net = {"w": jnp.ones((4, 6)), "v": jnp.ones((6, 3))}
    axes = hj.axes(net, {"w": (None, "f"), "v": ("f", None)})
    x = jnp.arange(8.0).reshape(2, 4)
    hj.probe(lambda p, a: (x @ p["w"]) * a["f"][None] @ p["v"], net, axes, {"f": 6})
    with pytest.raises(ValueError, match="parameter v of shape .*gates 'f'"):
        hj.probe(lambda p, a: jnp.tanh(x @ p["w"]) @ p["v"], net, axes, {"f": 6})


def test_the_probe_closes_every_unit():
    """Also those of a gate of one unit, and both orders of a gate of two."""
    x = jnp.arange(8.0).reshape(2, 4)
    for n in (1, 2, 3):
        net = {"w": jnp.ones((4, n)), "v": jnp.ones((n, 3))}
        axes = hj.axes(net, {"w": (None, "f"), "v": ("f", None)})
        hj.probe(lambda p, a: (x @ p["w"]) * a["f"][None] @ p["v"], net, axes, {"f": n})
        for unit in range(n):  # one unit gets around its gate
            def leaky(p, a, unit=unit):
                return (x @ p["w"]) * a["f"].at[unit].set(1)[None] @ p["v"]

            for seed in range(5):
                with pytest.raises(ValueError, match="changing it where they are closed changes"):
                    hj.probe(leaky, net, axes, {"f": n}, seed)


def test_what_does_not_fit_is_told():
    gates = hj.init_gates(jax.random.key(0), {"f": 6}, tasks=2)
    net = {"w": jnp.ones((4, 6))}
    tx = hj.optimizer(optax.sgd(0.1), hj.axes(net, {"w": (None, "f")}))
    params, past = {"net": net, "gates": gates}, hj.no_past(gates)
    state = tx.init(params)
    for task in (2, -1, np.int64(2), jnp.int32(-1), 1.0, None, True):
        for use in (
            lambda t: hj.gate(gates, t, 400.0),
            lambda t: hj.binarise(gates, t),
            lambda t: tx.update(params, state, params, past=past, s=1.0, task=t),
        ):
            with pytest.raises(ValueError, match="task .*: the embeddings have the tasks 0..1"):
                use(task)
    for task in (1, np.uint8(1), jnp.int32(1)):
        assert (hj.gate(gates, task, 400.0)["f"] == hj.gate(gates, 1, 400.0)["f"]).all()
    flat, more = jnp.ones(6), {**net, "v": 1.0}

    def update(grads, params):
        return tx.update(grads, state, params, past=past, s=1.0, task=0)

    for use, says in (
        (lambda: tx.init(net), "params: expected {\"net\": ..., .*got .'w'."),
        (lambda: tx.init({"net": net, "gates": {"f": flat}}), "gate 'f' is of shape .6,.: expec"),
        (lambda: tx.init({"net": more, "gates": gates}), "axes: expected what hatjax.axes.net"),
        (lambda: hj.optimizer(optax.sgd(0.1), None).init(params), "axes: expected what hatjax"),
        (lambda: update({"net": net}, params), "grads: expected .*got .'net'."),
        (lambda: update(params, None), "params: expected .*got NoneType"),
        (lambda: hj.axes(net, None), "rules = None: expected a dict"),
        (lambda: hj.init_gates(jax.random.key(0), {"f": "6"}, 2), "'f': '6'.: expected whole numb"),
    ):
        with pytest.raises(ValueError, match=says):
            use()
    for past, says in (({"f": jnp.zeros(1)}, r"\(1,\)"), ({}, "nothing")):
        with pytest.raises(ValueError, match=f"past has {says} for the gate 'f': expected .6,."):
            tx.update(params, tx.init(params), params, past=past, s=1.0, task=0)
    with pytest.raises(ValueError, match="expected an optimizer, as optax.adam.1e-3. gives"):
        hj.optimizer(optax.adam, {})
    with pytest.raises(ValueError, match=r"the rule '\(w' is no regular expression: "):
        hj.axes({"w": jnp.ones((4, 6))}, {"(w": (None, "f")})


def test_the_method_stands_alone():
    """hat.py and protection/ import jax, optax and numpy alone, and HAT is short."""
    allowed = {"jax", "optax", "numpy", "collections", "functools", "operator", "re", "typing"}
    files = [ROOT / "hatjax" / "hat.py", *(ROOT / "hatjax" / "protection").glob("*.py")]
    assert len(files) > 1
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                package = node.module.split(".")[0]
                ours = node.module == "hatjax" or node.module.startswith("hatjax.protection")
                assert package in allowed or ours
    assert len((ROOT / "hatjax" / "hat.py").read_text().splitlines()) < 300


@pytest.mark.parametrize("name", ["own_loop", "own_network"])
def test_examples(name):
    path = ROOT / "examples" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, path],
        env=os.environ | OPTIMISED, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if name == "own_loop":
        assert len(path.read_text().splitlines()) < 80
        assert done.stdout.count("earlier tasks' logits are bit-identical") == 5
    rows = [line for line in done.stdout.splitlines() if "%" in line]
    accuracies = [[float(v.rstrip("%")) for v in r.split() if v.endswith("%")] for r in rows]
    assert min(min(row) for row in accuracies) > 80
    for before, after in zip(accuracies, accuracies[1:], strict=False):
        assert np.allclose(before, after[: len(before)], atol=0.2)  # nothing is forgotten
