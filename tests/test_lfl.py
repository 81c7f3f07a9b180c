"""LFL's features and how strongly they are pulled, with dropout, which the golden cases lack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from hatjax import approaches, config, networks
from hatjax.training import train
from hatjax.training.losses import cross_entropy
from hatjax.types import Batch, Step

KEY = jax.random.key(5)
IMAGE, CLASSES = (14, 14, 3), (3, 2)
NETWORKS = {
    "alexnet": dict(name="alexnet", widths=(3, 4, 5, 7, 6), dropout=(0.2, 0.2, 0.5, 0.5, 0.5)),
    "mlp": dict(name="mlp", widths=(7, 6), dropout_in=0.2, dropout=0.5),
    "convnet": dict(name="convnet", widths=(4, 6), kernel=3, norm="batch", dropout=0.0),
}


def made(fidelity: str, fields: dict):
    """LFL's configuration and network, parameters before and in the second task, a batch of 8."""
    c = config.make("digits", "lfl")
    c.fidelity, c.batch, c.network = fidelity, 8, ConfigDict(fields)
    network = networks.make(c, IMAGE, CLASSES)
    old, params = (network.init(jax.random.fold_in(KEY, i)) for i in range(2))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(8, *IMAGE)), jnp.float32)
    batch = Batch(x, jnp.arange(8) % 2, jnp.ones(8, jnp.int32), jnp.ones(8))
    return c, network, old, params, batch


def loss(c, network, old, params, batch, key):
    """LFL's loss in the second task, after a first one that left the parameters `old`."""
    approach, hyper = approaches.make(c, network), train.hyperparameters(c)
    step = Step(jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.float32(0.1), None, hyper)
    _, memory = approach.end_task(old, {}, None, step)
    step = step._replace(task=jnp.int32(1), seen=jnp.int32(1), key=key)
    return approach.loss(params, memory, batch, step)[0]


def distance(h, old):
    return jnp.sum(jnp.square(h - old)) / 2


@pytest.mark.parametrize("name", ["alexnet", "mlp"])
def test_the_published_features(name):
    """Dropout in the layers below, none between the last one and the heads, none in the old ones;
    head and distance read the same features, and the distance is summed over the batch."""
    fields = NETWORKS[name]
    c, network, old, params, batch = made("code", fields)
    rate = fields["dropout"]
    rates = rate if isinstance(rate, tuple) else (rate,) * len(fields["widths"])
    plain = made("code", fields | {"dropout": (*rates[:-1], 0.0)})[1]
    new = plain.apply(params, batch.x, 1, key=KEY)
    clean = plain.apply(old, batch.x, 1).features
    want = cross_entropy(new.logits, batch) + c.approach.lamb * distance(new.features, clean)
    np.testing.assert_allclose(loss(c, network, old, params, batch, KEY), want, rtol=1e-5)
    # It shows: no unit of the last layer is dropped, and units below it are.
    assert not np.allclose(new.features, plain.apply(params, batch.x, 1).features)
    assert not np.allclose(new.features, network.apply(params, batch.x, 1, key=KEY).features)


@pytest.mark.parametrize("name", ["alexnet", "convnet"])
def test_features_without_dropout(name):
    """Fidelity "paper": the head reads what it reads in the other approaches."""
    c, network, old, params, batch = made("paper", NETWORKS[name])
    logits = network.apply(params, batch.x, 1, key=KEY, weight=batch.weight).logits
    h, clean = (network.apply(p, batch.x, 1).features for p in (params, old | own_norms(old)))
    want = cross_entropy(logits, batch) + c.approach.lamb * 64 * distance(h, clean) / 8
    np.testing.assert_allclose(loss(c, network, old, params, batch, KEY), want, rtol=1e-5)


def own_norms(old):
    """The norms and statistics of the first task, the last before the second, for both tasks."""
    return {k: jax.tree.map(lambda p: p[:1], old[k]) for k in ("norms", "stats")}


def test_lambda_means_the_same_in_both_fidelities():
    """In the published batches of 64, without dropout."""
    pulls = []
    for fidelity in ("paper", "code"):
        c, network, old, params, batch = made(fidelity, NETWORKS["alexnet"])
        c.batch = 64
        many = Batch(*(jnp.concatenate([v] * 8) for v in batch))
        entropy = cross_entropy(network.apply(params, many.x, 1).logits, many)
        pulls.append(loss(c, network, old, params, many, None) - entropy)
    np.testing.assert_allclose(*pulls, rtol=1e-5)


def test_the_published_validation_does_not_depend_on_eval_batch():
    c, network, old, params, batch = made("code", NETWORKS["alexnet"])
    twice = Batch(*(jnp.concatenate([v, v]) for v in batch))
    losses = [loss(c, network, old, params, b, None) for b in (batch, twice)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
