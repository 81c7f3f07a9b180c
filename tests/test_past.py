"""The invariant: with binary masks, later tasks leave earlier outputs bit-identical.

For every network and optimizer, in our runner and in a loop on the library alone.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from ml_collections import ConfigDict

import hatjax as hj
from hatjax import approaches, config, errors, networks
from hatjax.data import feed
from hatjax.networks.layers import Dense, gate
from hatjax.training import train
from hatjax.types import Split, State, Task

NETWORKS = {  # tiny ones of every kind, and their images
    "mlp": (dict(name="mlp", widths=(12, 10), dropout_in=0.2, dropout=0.5), (6, 6, 2)),
    "alexnet": (dict(name="alexnet", widths=(5, 6, 7, 12, 10), dropout=(0.2,) * 5), (14, 14, 3)),
    "convnet": (
        dict(name="convnet", widths=(6, 5), kernel=3, norm="batch", dropout=0.2), (8, 8, 3)
    ),
    "resnet18": (dict(name="resnet18", widths=(4, 4, 5, 6), norm="batch"), (8, 8, 3)),
    "vit": (
        dict(name="vit", patch=4, width=12, depth=2, heads=3, mlp=2, dropout=0.2), (8, 8, 3)
    ),
}  # fmt: skip
OPTIMIZERS = {
    "sgd": dict(name="sgd"),
    "momentum": dict(name="momentum"),
    "adamw": dict(name="adamw", weight_decay=0.05),
}
CLASSES = (3, 2, 4)


def small(name: str, optimizer: str = "sgd", seed: int = 0, approach: str = "hat"):
    """A tiny configuration, its tasks of random images, network and approach."""
    c = config.make("digits", approach)
    c.seed, c.batch, c.eval_batch, c.lr = seed, 8, 8, 0.02 if optimizer == "adamw" else 0.2
    fields, image = NETWORKS[name]
    c.network, c.optimizer = ConfigDict(fields), ConfigDict(OPTIMIZERS[optimizer])
    rng = np.random.default_rng(seed)
    tasks = []
    for t, classes in enumerate(CLASSES):
        x = rng.integers(0, 256, (27, *image), np.uint8)
        split = Split(x, rng.integers(0, classes, 27))
        mean, std = np.full(image[-1], 127.0), np.full(image[-1], 74.0)
        tasks.append(Task(str(t), t, classes, split, split, split, mean, std))
    network = networks.make(c, image, CLASSES)
    return c, tasks, network, approaches.make(c, network)


def binary(params: dict, task: int, key) -> dict:
    """The embeddings of `task` at +-6: gates of exactly 0 and 1 at s_max."""
    keys = dict(zip(params["gates"], jax.random.split(key, len(params["gates"])), strict=True))

    def extreme(layer: str, e):
        half = jnp.arange(e.shape[1]) % 2 == 0  # some open, some closed
        return e.at[task].set(12.0 * jax.random.permutation(keys[layer], half) - 6.0)

    return params | {"gates": {k: extreme(k, e) for k, e in params["gates"].items()}}


@functools.cache
def compiled(name: str):
    """The program of `small(name)`, the same for all seeds."""
    c, _, _, approach = small(name)
    return train.compile(c, approach)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["mlp", "alexnet"])
def test_past_is_untouched(name, seed):
    """By the compiled program of a run, with its evaluation, schedule and end of a task."""
    c, tasks, network, approach = small(name, seed=seed)
    c.lr = 0.5
    program, hyper = compiled(name), train.hyperparameters(c)
    key = jax.random.key(seed)
    params, memory = program.init(key)
    length = feed.capacity(tasks, "train", c.batch)
    seen = {}
    for t in range(len(tasks)):
        data = feed.put(tasks, t, "train", length)
        turn = feed.turn(tasks, t)
        state = program.begin(params, memory, turn, jax.random.fold_in(key, t), hyper)
        before = jax.tree.map(jnp.copy, state.params)
        for _ in range(3):
            state, _ = program.epoch(state, data, data, turn, hyper)
        changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, state.params)
        assert any(jax.tree.leaves(changed["trunk"]))  # there was something to protect
        state = state._replace(params=state.schedule.params)
        extreme = binary(state.params, t, jax.random.fold_in(key, 100 + t))
        schedule = state.schedule._replace(params=extreme)
        params, memory = program.end(state._replace(schedule=schedule), data, turn, hyper)
        gates = network.gates(params, t, hyper.approach.s_max)
        assert all(set(np.unique(g)) <= {0.0, 1.0} for g in gates.values())
        for u, logits in seen.items():
            x = tasks[u].test.x.astype(np.float32)
            np.testing.assert_array_equal(approach.predict(params, memory, x, u, hyper), logits)
        x = tasks[t].test.x.astype(np.float32)
        seen[t] = np.asarray(approach.predict(params, memory, x, t, hyper))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_past_is_untouched_in_the_runner(name, optimizer, seed=0):
    c, tasks, network, approach = small(name, optimizer, seed)
    hyper, key = train.hyperparameters(c), jax.random.key(seed)
    length = feed.capacity(tasks, "train", c.batch)

    @jax.jit
    def learn(params, memory, data, turn, key):
        """A pass over the task, from the beginning of the task to its end."""
        step = train.evaluation_step(turn, hyper)._replace(key=key)
        params, memory = approach.begin_task(params, memory, step)
        schedule, memory = approach.schedule.start(params, memory, step)
        moments = train.moments(approach, approach.take(params, memory, step), memory, step)
        state = State(params, memory, moments, schedule, key)
        order = feed.shuffle(key, data)
        state, losses, _ = train.run_steps(c, approach, state, data, order, turn, key, hyper)
        hard = binary(state.params, turn.task, key)  # as if this had been learned
        return *approach.end_task(hard, state.memory, data, step), losses

    predict = jax.jit(lambda params, memory, x, u: approach.predict(params, memory, x, u, hyper))
    params, memory = jax.jit(approach.init)(key)
    seen = {}
    for t in range(len(tasks)):
        data, turn = feed.put(tasks, t, "train", length), feed.turn(tasks, t)
        before = params
        params, memory, losses = learn(params, memory, data, turn, jax.random.fold_in(key, t))
        assert np.isfinite(losses).all()
        for part in ("trunk", *(("norms", "stats") if params["norms"] else ())):
            changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before[part], params[part])
            assert any(jax.tree.leaves(changed)) or not changed  # there was something to protect
        gates = network.gates(params, t, hyper.approach.s_max)
        assert all(set(np.unique(g)) == {0.0, 1.0} for g in gates.values())
        for u, (x, logits) in seen.items():
            np.testing.assert_array_equal(predict(params, memory, x, u), logits)
        x = (tasks[t].test.x - np.float32(127)) / 74
        seen[t] = x, np.asarray(predict(params, memory, x, t))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_past_is_untouched_with_other_seeds(name, optimizer, seed):
    test_the_past_is_untouched_in_the_runner(name, optimizer, seed)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_past_is_untouched_in_a_loop_of_ones_own(name):
    """Gradients are random, and large: whatever a loss may ask for, what is held stays."""
    _, _, network, _ = small(name)
    image, key = NETWORKS[name][1], jax.random.key(0)
    x = jax.random.normal(key, (5, *image))
    start = jax.jit(network.init)(key)
    apply = jax.jit(
        lambda p, u: network.apply(p["net"] | p["more"], x, u, jnp.float32(400)).logits
    )
    optimizers = {
        "sgd": optax.sgd(0.5), "momentum": optax.sgd(0.1, momentum=0.9),
        "adamw": optax.adamw(0.05, weight_decay=0.5), "lion": optax.lion(0.05, weight_decay=0.5),
    }  # fmt: skip
    for optimizer in optimizers.values():
        params = hj_params(start)
        tx = hj.optimizer(optimizer, network.axes, clip=1e6)

        @jax.jit
        def steps(params, past, t, key, tx=tx):
            def step(i, carry):
                params, state = carry
                grads = random_like(params, jax.random.fold_in(key, i))
                updates, state = tx.update(grads, state, params, past=past, s=400.0, task=t)
                return optax.apply_updates(params, updates), state

            return jax.lax.fori_loop(0, 3, step, (params, tx.init(params)))[0]

        past, seen = hj.no_past(params["gates"]), {}
        for t in range(3):
            params = steps(params, past, t, jax.random.fold_in(key, t))
            params = binary(params, t, jax.random.fold_in(key, 100 + t))
            past = hj.accumulate(past, hj.gate(params["gates"], t, 400.0))
            whole = {"net": params["net"]}
            whole["more"] = {"gates": params["gates"], "stats": start["stats"]}
            for u, logits in seen.items():
                np.testing.assert_array_equal(apply(whole, u), logits)
            seen[t] = np.asarray(apply(whole, t))


def hj_params(params: dict) -> dict:
    """Our runner's parameters as hatjax.optimizer takes them."""
    return {"net": {k: params[k] for k in ("trunk", "norms", "head")}, "gates": params["gates"]}


def random_like(tree, key):
    """Numbers of N(0, 100) of the same shapes."""
    flat, restore = ravel_pytree(tree)
    return restore(10 * jax.random.normal(key, flat.shape))


class Careless(nn.Module):
    """A trunk whose rules leave a parameter out."""

    units = {"fc1": 4}
    rules = {"fc1/kernel": (None, "fc1")}

    @nn.compact
    def __call__(self, x, gates):
        return gate(nn.Dense(4, name="fc1")(x.reshape(len(x), -1)), gates, "fc1")


class Misnamed(Careless):
    rules = {".*kernel": (None, "fc2"), ".*": ("fc1",)}


class Unfitting(Careless):
    units = {"fc1": 3}
    rules = {".*kernel": (None, "fc1"), ".*": ("fc1",)}

    @nn.compact
    def __call__(self, x, gates):
        return nn.Dense(4, name="fc1")(x.reshape(len(x), -1))


class Ungated(Careless):
    rules = {".*kernel": (None, None), ".*": ("fc1",)}


@pytest.mark.parametrize(
    "trunk, says",
    [
        (Careless(), r"parameter fc1/bias of shape \(4,\) matches no rule"),
        (Misnamed(), "there is no gate 'fc2'"),
        (Unfitting(), "the gate 'fc1' does not fit its axis"),
        (Ungated(), r"fc1/kernel of shape \(4, 4\) has no gate by the rule"),
    ],
)
def test_an_uncovered_parameter_is_an_error(trunk, says):
    with pytest.raises(ValueError, match=says):
        networks.wrap(trunk, (2, 2, 1), (3, 3), gated=True)


class Leaky(nn.Module):
    """Two layers, with one of the ways in which networks get around their gates."""

    way: str
    units = {"fc1": 6, "fc2": 6}

    @property
    def rules(self):
        rules = {
            "fc1/kernel": (None, "fc1"), "fc1/bias": ("fc1",),
            "fc2/kernel": ("fc1", "fc2"), "fc2/bias": ("fc2",),
        }  # fmt: skip
        return rules | {"norm/.*": ("fc1",) if self.way == "declared" else hj.PER_TASK}

    @nn.compact
    def __call__(self, x, gates):
        h = Dense(6, name="fc1")(x.reshape(len(x), -1))
        if self.way == "before":  # statistics over closed units
            h = gate(nn.LayerNorm(name="norm")(h), gates, "fc1")
        elif self.way in ("after", "declared"):  # the norm opens what was closed
            h = nn.LayerNorm(name="norm")(gate(h, gates, "fc1"))
        elif self.way == "again":
            h = gate(nn.LayerNorm(name="norm")(gate(h, gates, "fc1")), gates, "fc1")
        elif self.way == "none":
            h = gate(h, gates, "fc1")
        z = gate(Dense(6, name="fc2")(nn.relu(h)), gates, "fc2")
        return z + h if self.way == "around" else z


@pytest.mark.parametrize(
    "way, parameter", [
        ("before", "fc1/"), ("after", "fc2/"), ("declared", "fc2/|norm/"), ("around", "fc1/"),
        ("again", None), ("none", None),
    ],
)  # fmt: skip
def test_a_network_whose_closed_units_show_is_refused(way, parameter):
    network = networks.wrap(Leaky(way), (2, 2, 1), (3, 3), gated=True)
    if parameter is None:
        networks.probe(network, (2, 2, 1))
    else:
        with pytest.raises(errors.InputError, match=f"trunk/({parameter}).*a norm after the gate"):
            networks.probe(network, (2, 2, 1))


@pytest.mark.parametrize("norm", ["batch", "layer", "group", "none"])
@pytest.mark.parametrize("name", NETWORKS)
def test_our_networks_can_be_protected(name, norm):
    fields, image = NETWORKS[name]
    if "norm" not in fields and norm != "none":
        return  # there is nothing to choose
    c = config.make("digits", "hat")
    c.network = ConfigDict(fields | ({"norm": norm} if "norm" in fields else {}))
    networks.probe(networks.make(c, image, CLASSES), image)
