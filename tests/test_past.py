"""The invariant: with binary masks, later tasks leave earlier outputs bit-identical."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from hatjax import approaches, config, feed, networks, train
from hatjax.networks.layers import Dense, gated, uniform
from hatjax.types import Split, Task

GATED = {"mlp": (6, 6, 2), "alexnet": (14, 14, 3)}  # network -> image
NETWORKS = {
    "mlp": dict(name="mlp", widths=(12, 10), dropout_in=0.2, dropout=0.5),
    "alexnet": dict(name="alexnet", widths=(5, 6, 7, 12, 10), dropout=(0.2,) * 5),
}
CLASSES = (3, 2, 4)


def small(name: str, seed: int):
    """A tiny configuration, its tasks of random images, network and approach."""
    c = config.make("digits", "hat")
    c.seed, c.batch, c.eval_batch, c.lr = seed, 8, 8, 0.5
    c.network = ConfigDict(NETWORKS[name])
    rng = np.random.default_rng(seed)
    tasks = []
    for t, classes in enumerate(CLASSES):
        x = rng.integers(0, 256, (27, *GATED[name]), np.uint8)
        split = Split(x, rng.integers(0, classes, 27))
        c_in = x.shape[-1]
        tasks.append(
            Task(str(t), t, classes, split, split, split, np.full(c_in, 127.0), np.full(c_in, 74.0))
        )
    network = networks.make(c, GATED[name], CLASSES)
    return c, tasks, network, approaches.make(c, network)


def binary(params: dict, task: int, key) -> dict:
    """The embeddings of `task` at +-6: gates of exactly 0 and 1 at s_max."""
    keys = dict(zip(params["gates"], jax.random.split(key, len(params["gates"])), strict=True))

    def extreme(layer: str, e):
        side = 12.0 * jax.random.bernoulli(keys[layer], 0.5, e[task].shape) - 6.0
        return e.at[task].set(side)

    return params | {"gates": {k: extreme(k, e) for k, e in params["gates"].items()}}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GATED)
def test_past_is_untouched(name, seed):
    c, tasks, network, approach = small(name, seed)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
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
        gates = network.gates(params, t, hyper["s_max"])
        assert all(set(np.unique(g)) <= {0.0, 1.0} for g in gates.values())
        for u, logits in seen.items():
            x = tasks[u].test.x.astype(np.float32)
            np.testing.assert_array_equal(approach.predict(params, memory, x, u, hyper), logits)
        x = tasks[t].test.x.astype(np.float32)
        seen[t] = np.asarray(approach.predict(params, memory, x, t, hyper))


class Careless(nn.Module):
    """A trunk with a layer that declares nothing."""

    units = {"fc1": 4}

    @nn.compact
    def __call__(self, x, gates):
        return nn.Dense(4, name="fc1")(x.reshape(len(x), -1))


class Misnamed(nn.Module):
    units = {"fc1": 4}

    @nn.compact
    def __call__(self, x, gates):
        return Dense(5, gate="fc1", name="fc1")(x.reshape(len(x), -1))


class Ungated(nn.Module):
    units = {"fc1": 4}

    @nn.compact
    def __call__(self, x, gates):
        scale = self.param("scale", gated(uniform(1), None), (4,))
        return Dense(4, gate="fc1", name="fc1")(x.reshape(len(x), -1)) * scale[None]


@pytest.mark.parametrize(
    "trunk, says",
    [
        (Careless(), r"\['fc1'\]\['bias'\] does not declare its gates"),
        (Misnamed(), "which does not fit an axis of 5"),
        (Ungated(), r"\['scale'\] of shape \(4,\) declares the gates"),
    ],
)
def test_an_uncovered_parameter_is_an_error(trunk, says):
    with pytest.raises(TypeError, match=says):
        networks.wrap(trunk, (2, 2, 1), (3, 3), gated=True)
