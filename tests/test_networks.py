"""Every network and optimizer in the runner: with every approach, in company, after a pause."""

import pickle
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import hatjax
from hatjax import approaches, config, networks, plans
from hatjax.analysis import models
from hatjax.data import Raw, feed, npz
from hatjax.errors import InputError, Interrupted
from hatjax.experiment import run, stop
from hatjax.training import train
from hatjax.workdir import results
from tests.test_past import CLASSES, NETWORKS, small
from tests.test_replicas import same

STRUCTURED = ("progressive", "pathnet")
QUICK = ("hat", "lwf", "imm_mean", "packnet", "er")  # one of a kind
SHARING = ("joint", "er", "derpp", "agem", "lwf")  # all tasks have the same norms


@pytest.mark.parametrize("name", [
    n if n in QUICK else pytest.param(n, marks=pytest.mark.slow)
    for n in approaches.APPROACHES if n not in STRUCTURED
])  # fmt: skip
def test_every_approach_learns_with_batch_norm(name):
    """An epoch of each task on a convnet: finite, with statistics of the task alone."""
    c, tasks, network, approach = small("convnet", "adamw", approach=name)
    hyper, key = train.hyperparameters(c), jax.random.key(0)
    program = train.compile(c, approach)
    params, memory = program.init(key)
    length = feed.capacity(tasks, "train", c.batch, approach.union)
    tests = feed.capacity(tasks, "test", c.batch)
    for t in range(2):
        data = feed.put(tasks, t, "train", length, approach.union)
        turn = feed.turn(tasks, t)
        state = program.begin(params, memory, turn, jax.random.fold_in(key, t), hyper)
        if approach.trained:
            state, scores = program.epoch(state, data, data, turn, hyper)
            assert not scores["failed"]
        params, memory = program.end(state, data, turn, hyper)
        for u in range(t + 1):
            test = feed.put(tasks, u, "test", tests)
            scores = program.evaluate(params, memory, test, feed.turn(tasks, u), hyper)
            assert np.isfinite(scores["loss"])
    assert program.epoch._cache_size() <= 1
    if approach.trained:
        mean = params["stats"]["norm_c1"]["mean"]
        assert (mean[1] != 0).all() and ((mean[2] == 0).all() or name in SHARING)


@pytest.mark.parametrize("name", STRUCTURED)
@pytest.mark.parametrize("network", ["convnet", "resnet18", "vit"])
def test_who_cannot_use_a_network_says_so(name, network):
    c = config.make("cifar", name, network=network)
    with pytest.raises(InputError, match=f"'{name}' builds its own .*'{network}' has none"):
        networks.make(c, (32, 32, 3), CLASSES)


def test_parameter_counts():
    """As published: ResNet-18 with a 3x3 stem has 11.17 million parameters, ViT-Ti 5.4."""

    def count(name, **fields):
        c = config.make("cifar", "sgd", network=name)
        c.network.update(fields)
        return sum(networks.count(networks.make(c, (32, 32, 3), (10,))).values())

    assert count("resnet18", widths=(64, 128, 256, 512)) == 11_173_962
    assert count("resnet18") == 1_094_750
    assert count("vit") == 5_362_378


@pytest.fixture
def images(tmp_path):
    """A configuration of two tasks of random images on a convnet with batch norm, and AdamW."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (90, 8, 8, 3), np.uint8), np.arange(90) % 4
    npz.write(tmp_path / "mine.npz", Raw(x, y, x[:20], y[:20]))
    c = config.make("cifar", "hat")
    c.data.sets, c.data.root, c.tasks.count = ("mine",), str(tmp_path), 2
    c.network = ConfigDict(NETWORKS["convnet"][0])
    c.optimizer = ConfigDict(dict(name="adamw", weight_decay=0.05))
    c.epochs, c.batch, c.lr, c.data.augment = 3, 16, 0.01, ("crop", "flip")
    return c


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("momentum", marks=pytest.mark.slow)])
def test_replicas_with_moments_and_norms_are_the_runs_alone(images, tmp_path, optimizer):
    images.optimizer, images.seeds = ConfigDict(dict(name=optimizer)), 2
    if optimizer == "adamw":  # without which it makes of a gradient's rounding a whole step
        images.optimizer.eps = 1e-2
    runs = plans.replicas(images)
    run.run_sweep(tmp_path / "all", runs)
    run.run(runs["seed1"], tmp_path / "alone")
    same(tmp_path / "all" / "seed1", tmp_path / "alone")


class OftenStopped(stop.Stopping):
    """Says every third time that the run is to stop."""

    asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked % 3 == 0


@pytest.mark.parametrize(
    "optimizer, schedule",
    [("adamw", "cosine"), pytest.param("momentum", "plateau", marks=pytest.mark.slow)],
)
def test_a_pause_changes_no_bit(images, tmp_path, optimizer, schedule):
    images.optimizer, images.schedule = ConfigDict(dict(name=optimizer)), schedule
    images.checkpoint.epochs = 1
    run.run(images, tmp_path / "whole")
    pauses, stopping = 0, OftenStopped()
    while not (tmp_path / "cut" / "done").exists():
        try:
            run.run(images, tmp_path / "cut", stopping=stopping)
        except Interrupted:
            pauses += 1
    assert pauses > 1
    a, b = models.load(tmp_path / "whole"), models.load(tmp_path / "cut")
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.memory), (b.params, b.memory))
    rows = [results.read_rows(tmp_path / k / "metrics.jsonl") for k in ("whole", "cut")]
    assert rows[0] == rows[1]


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, a, train):
        h = nn.Conv(6, (3, 3), name="conv")(x)
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(h)
        return nn.relu(h) * a[None, None, None]


class Nested(nn.Module):
    """A gate that is no module's name, behind a block of two modules."""

    around: bool = False
    units = {"inside": 6}
    rules = {
        "block/conv/kernel": (None, None, None, "inside"), "block/conv/bias": ("inside",),
        "block/norm/.*": hatjax.PER_TASK,
    }  # fmt: skip

    @nn.compact
    def __call__(self, x, gates, train):
        a = gates["inside"]
        h = Block(name="block")(x, a * 0 + 1 if self.around else a, train)
        return h.mean(axis=(1, 2))


def arrays():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5, 5, 2)), np.arange(60) % 3
    return [(x, y, x[:12], y[:12])] * 2


def test_a_nested_network_of_ones_own(tmp_path, capsys):
    settings = dict(epochs=2, batch=16, workdir=tmp_path / "run", quiet=True)
    result = hatjax.fit(arrays(), network=Nested(), optimizer="momentum", **settings)
    assert result.accuracy.shape == (2, 2)
    print(run.recall(tmp_path / "run"))
    assert "capacity used  inside     all" in capsys.readouterr().out
    assert hatjax.overlap(result.model).shape == (2, 2)
    assert set(hatjax.task_masks(result.model, 0)) == {"inside"}
    with pytest.raises(InputError, match="'Nested' cannot be cut: it has norms"):
        hatjax.cut(result.model, 0)
    gone = hatjax.forget_task(result.model, 0, jax.random.key(0))
    x = arrays()[1][0][:5]
    hatjax.predict(gone, x, 1)
    assert (gone.params["stats"]["block"]["norm"]["mean"][0] == 0).all()
    kept = pickle.dumps(result.model)
    again = hatjax.predict(pickle.loads(kept), x, 1)
    np.testing.assert_array_equal(again, hatjax.predict(result.model, x, 1))
    del config.NETWORKS["Nested"]  # as in another process
    with pytest.raises(InputError, match="unknown network 'Nested'.*register it first"):
        pickle.loads(kept)
    with pytest.raises(InputError, match="its network 'Nested' is not registered. In Python call"):
        hatjax.load(tmp_path / "run")


def test_a_network_that_gets_around_its_gates_is_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="cannot be protected: parameter trunk/block/conv/"):
        hatjax.fit(arrays(), network=Nested(around=True), workdir=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_one_of_ours_cannot_be_replaced():
    with pytest.raises(InputError, match="there is a network 'mlp' already"):
        hatjax.register("mlp", lambda config, image: Nested())


@pytest.mark.parametrize(
    "settings, says",
    [
        (dict(optimizer="adamx"), "unknown optimizer 'adamx'. Did you mean 'adamax'"),
        (dict(optimizer={"name": "adam", "beta": 1}), "unknown argument of the optimizer 'adam'"),
        (dict(network="resnet"), "unknown network 'resnet'. Did you mean 'resnet"),
        (dict(network={"name": "vit", "patch": 3}), "network.patch = 3: images of 5x5"),
        (dict(network={"name": "vit", "patch": 5, "heads": 5}), "heads = 5: expected a divisor"),
        (dict(network={"name": "resnet18", "widths": (4,)}), "resnet18 has 4 stages, got 1"),
        (dict(network={"name": "convnet", "norm": "weight"}), "network.norm = 'weight'"),
        (dict(schedule="linear"), "schedule = 'linear': expected 'plateau', 'cosine'"),
    ],
)
def test_wrong_networks_and_optimizers_are_told(settings, says, tmp_path):
    with pytest.raises(InputError, match=says):
        hatjax.fit(arrays(), workdir=tmp_path / "run", quiet=True, **settings)
    assert not (tmp_path / "run").exists()


def command(*args):
    done = subprocess.run(
        [sys.executable, "-m", "hatjax.main", *args, "--dry_run"],
        capture_output=True, text=True, timeout=120,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_networks_and_optimizers_by_flags():
    status, out, err = command(
        "--config.network.name=convnet", "--config.network.widths=8,6",
        "--config.optimizer.name=adamw", "--config.optimizer.weight_decay=0.05",
        "--config.optimizer.nesterov=True", "--config.lr=1", "--config.schedule=cosine",
    )  # fmt: skip
    assert status == 0, err
    shown = out[: out.index("\n}\n") + 2]
    c = config.from_json(shown)
    want = dict(name="adamw", weight_decay=0.05, nesterov=True)
    assert c.optimizer.to_dict() == want and c.network.widths == (8, 6) and c.lr == 1.0
    assert set(c.network) == {"name", "widths", "kernel", "norm", "dropout", "conv"}
    assert "FLOPs an image, forward" in out and "norms" in out


@pytest.mark.parametrize(
    "flag, says",
    [
        ("--config.optimizer.momentum=fast", "optax.sgd(momentum='fast') cannot be used"),
        ("--config.optimizer.speed=1", "unknown argument of the optimizer 'sgd' 'speed'"),
        ("--config.network.name=resnet81", "Did you mean 'resnet18'"),
    ],
)
def test_wrong_flags_are_one_line(flag, says):
    status, _, err = command(flag)
    assert status == 2 and says in err and len(err.splitlines()) == 1
