"""What every approach of the table keeps to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, networks
from hatjax.analysis import models
from hatjax.data import feed
from hatjax.data.tasks import by_row
from hatjax.data.tasks.fingerprint import fingerprints
from hatjax.networks import rows
from hatjax.training import train
from hatjax.types import Split, Task, Turn
from hatjax.workdir import files, results

NAMES = list(approaches.APPROACHES)
CLASSES = (2, 3, 2)  # of the tasks, in the order in which they are learned
ROWS = (1, 0, 2)  # theirs in the per-task arrays
MEAN, STD = np.full(1, 128.0), np.full(1, 64.0)


def setup(name: str, fidelity: str = "paper"):
    """A tiny run: configuration, tasks, network, approach."""
    c = config.make("digits", name)
    c.fidelity, c.batch, c.eval_batch = fidelity, 8, 8
    c.network.widths, c.network.dropout = (7, 6), 0.25
    rng = np.random.default_rng(0)

    def split(n, classes):
        x = rng.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
        return Split(x, rng.integers(classes, size=n))

    tasks = [
        Task(str(t), row, k, split(21 + t, k), split(8, k), split(8, k), MEAN, STD)
        for t, (row, k) in enumerate(zip(ROWS, CLASSES, strict=True))
    ]
    network = networks.make(c, (4, 4, 1), by_row(tasks, "classes"))
    return c, tasks, network, approaches.make(c, network)


def feeds(c, tasks, approach):
    length = feed.capacity(tasks, "train", c.batch, approach.union)
    return [feed.put(tasks, t, "train", length, approach.union) for t in range(len(tasks))]


def experiment(c, approach, data):
    """A pure function (key, lr) -> all that a run of the tasks leaves, an epoch each."""
    program = train.compile(c, approach)

    def run(key, lr):
        hyper = train.hyperparameters(c)._replace(lr=lr)

        def learn(carry, x):  # one program for all tasks
            t, d = x
            turn = Turn(jnp.array(ROWS)[t], t)
            state = program.begin(*carry, turn, jax.random.fold_in(key, t), hyper)
            state, scores = program.epoch(state, d, d, turn, hyper)
            return program.end(state, d, turn, hyper), scores["losses"]

        tasks = jnp.arange(len(data)), jax.tree.map(lambda *d: jnp.stack(d), *data)
        (params, memory), losses = jax.lax.scan(learn, program.init(key), tasks)
        return params, memory, losses

    return run


@pytest.mark.parametrize("name", NAMES)
def test_shapes_stay(name):
    c, tasks, _, approach = setup(name)
    data = feeds(c, tasks, approach)
    before = jax.eval_shape(approach.init, jax.random.key(0))
    params, memory, _ = jax.eval_shape(experiment(c, approach, data), jax.random.key(0), 0.1)

    def kinds(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

    assert kinds((params, memory)) == kinds(before)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(approach.init(jax.random.key(0))))


@pytest.mark.parametrize("name", NAMES)
def test_a_replica_has_the_same_numbers_in_company(name):
    c, tasks, _, approach = setup(name)
    whole = experiment(c, approach, feeds(c, tasks, approach))
    quick = dict(compiler_options={"xla_backend_optimization_level": 0})  # it hardly computes
    run, together = jax.jit(whole, **quick), jax.jit(jax.vmap(whole), **quick)
    keys, rates = jax.random.split(jax.random.key(3), 2), jnp.array([0.05, 0.2])
    both = together(keys, rates)
    for i in range(2):
        alone = run(keys[i], rates[i])
        for got, want in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            # Summed in another order, in float32.
            np.testing.assert_allclose(got[i], want, rtol=2e-4, atol=2e-6)


# HAT and AdaHAT have gates besides, WSN and SupSup masks from the first step, and the progressive
# network and PathNet other networks (test_properties).
OTHERS = ("random", "hat", "adahat", "wsn", "supsup", "progressive", "pathnet")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in OTHERS])
def test_an_empty_past_is_plain_sgd(name):
    results = []
    for which in (name, "sgd"):
        c, tasks, _, approach = setup(which)
        data = feeds(c, tasks, approach)[0]
        params, memory = approach.init(jax.random.key(0))
        batch = feed.batch(data, None, 0, c.batch)
        hyper, key = train.hyperparameters(c), jax.random.key(1)
        step = train.Step(*Turn(1, 0), jnp.float32(0), jnp.float32(0.1), key, hyper)
        own = approach.take(params, memory, step)
        optimizer = train.moments(approach, own, memory, step)
        own, _, loss, _ = train.train_step(approach, own, memory, optimizer, batch, step)
        head = rows.take(approach.put(params, own, memory, step), 1)["head"]
        results.append((loss, own["trunk"], head))
    for got, want in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_large_is_baked_into_the_program(name):
    c, tasks, _, approach = setup(name)
    data = feeds(c, tasks, approach)[0]
    hyper = train.hyperparameters(c)

    def step(params, memory, batch, task, key):
        s = train.Step(task, task, jnp.float32(0), jnp.float32(0.1), key, hyper)
        own = approach.take(params, memory, s)
        optimizer = train.moments(approach, own, memory, s)
        return train.train_step(approach, own, memory, optimizer, batch, s)

    params, memory = approach.init(jax.random.key(0))
    batch = feed.batch(data, None, 0, c.batch)
    jaxpr = jax.make_jaxpr(step)(params, memory, batch, jnp.int32(0), jax.random.key(0))
    assert all(np.size(x) <= len(CLASSES) for x in jaxpr.consts)


@pytest.mark.parametrize(
    "name",
    ["ewc", "imm_mean", "imm_mode", "lfl", "hat", "adahat", "si", "mas", "er", "derpp", "agem"],
)
def test_memory_does_not_grow_with_the_tasks(name):
    c, _, _, _ = setup(name)

    def size(tasks):
        approach = approaches.make(c, networks.make(c, (4, 4, 1), (2,) * tasks))
        memory = jax.eval_shape(approach.init, jax.random.key(0))[1]
        return sum(x.size for x in jax.tree.leaves(memory))

    assert size(2) == size(20)


@pytest.mark.parametrize("name", NAMES)
def test_memory_survives_a_save_and_a_load(name, tmp_path):
    c, tasks, network, approach = setup(name)
    params, memory = approach.init(jax.random.key(0))
    memory = jax.tree.map(lambda x: x + 1, memory)
    files.write_text(tmp_path / "config.json", config.to_json(c))
    results.write_tasks(tmp_path, tasks, fingerprints(tasks))
    acc = np.zeros((len(tasks), len(tasks)))
    results.save(tmp_path, acc, acc, params, memory)
    model = models.load(tmp_path)
    for got, want in zip(
        jax.tree.leaves((model.params, model.memory)),
        jax.tree.leaves((params, memory)),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)
    x, hyper = tasks[0].test.x, train.hyperparameters(c)
    batch = feed.batch(feed.put(tasks, 0, "test", len(x)), None, 0, len(x))
    want = approach.predict(params, memory, batch.x, tasks[0].row, hyper)
    np.testing.assert_allclose(
        models.predict(model, x, 0), want[:, : CLASSES[0]], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["hat", "sgd", "lwf"])
def test_models_of_the_first_edition_are_read(name, tmp_path):
    """They have no norms and no statistics, and neither has what approaches remember of them."""
    c, tasks, _, approach = setup(name)
    params, memory = approach.init(jax.random.key(0))
    old = {k: v for k, v in params.items() if k not in ("norms", "stats")}
    before = memory
    if name == "lwf":
        before = memory | {"old": {k: memory["old"][k] for k in old}}
    files.write_text(tmp_path / "config.json", config.to_json(c))
    results.write_tasks(tmp_path, tasks, fingerprints(tasks))
    acc = np.zeros((len(tasks), len(tasks)))
    results.save(tmp_path, acc, acc, old, before)
    model = models.load(tmp_path)
    assert jax.tree.structure((model.params, model.memory)) == jax.tree.structure((params, memory))
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
