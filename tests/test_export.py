"""The small network of a task: the same outputs from fewer units, in a folder of its own."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, export, networks
from hatjax.analysis import masks, models, savings
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.networks.layers import gate
from hatjax.workdir import files
from tests import trained


def check_same(model: models.Model, task: int, small: export.Small, x: np.ndarray) -> None:
    full, cut = models.predict(model, x, task), export.predict(small, x)
    assert full.shape == cut.shape
    np.testing.assert_allclose(full, cut, rtol=0, atol=1e-6 * float(jnp.abs(full).max()))


@pytest.mark.parametrize("gates", trained.GATES)
@pytest.mark.parametrize("name", ["mlp", "alexnet"])
def test_the_same_outputs_from_the_open_units(trained_runs, name, gates):
    model = trained.model(trained_runs[name], gates)
    x = trained.images(name, trained_runs[name].parent)
    for task in range(3):
        small = export.cut(model, task)
        check_same(model, task, small, x)
        assert small.task == model.names[task] and small.network.units == {}
        assert small.config.network.widths == tuple(len(u) for u in small.units.values())
        for layer, a in masks.masks(model, task).items():
            np.testing.assert_array_equal(small.units[layer], np.flatnonzero(a > masks.DEAD))
            assert (len(small.units[layer]) == len(a)) == (gates == "soft")
            # "binary" and "soft" are what they say.
            assert (gates != "binary") or set(np.unique(a)) == {0, 1}
            assert (gates != "soft") or ((a > 1e-9) & (a < 1)).all()


@pytest.mark.parametrize("name, layer", [("mlp", "fc2"), ("alexnet", "c3")])
def test_a_layer_without_open_units_keeps_one(trained_runs, name, layer):
    model = trained.model(trained_runs[name], "trained")
    closed = model.params["gates"] | {layer: model.params["gates"][layer].at[1].set(-6)}
    row = model.rows.index(1)
    model = model._replace(params=model.params | {"gates": closed})
    small = export.cut(model, row)
    sizes = [len(u) for u in small.units.values()]
    closed_at = list(small.units).index(layer)
    # What only feeds closed units is not read; a layer after it is as before.
    assert sizes[: closed_at + 1] == [1] * (closed_at + 1)
    assert all(n > 1 for n in sizes[closed_at + 1 :])
    check_same(model, row, small, trained.images(name, trained_runs[name].parent))


def test_tiny_gates_are_closed_and_units_that_nothing_reads_go(trained_runs):
    model = trained.model(trained_runs["mlp"], "binary")
    e = model.params["gates"]["fc1"].at[model.rows[0]].set(6).at[model.rows[0], 3].set(-0.1)
    kernel = model.params["trunk"]["fc2"]["kernel"].at[5].set(0)
    fc2 = model.params["trunk"]["fc2"] | {"kernel": kernel}
    model = model._replace(
        params=model.params
        | {"gates": model.params["gates"] | {"fc1": e}}
        | {"trunk": model.params["trunk"] | {"fc2": fc2}}
    )
    assert 0 < masks.masks(model, 0)["fc1"][3] < masks.DEAD
    small = export.cut(model, 0)
    np.testing.assert_array_equal(small.units["fc1"], np.delete(np.arange(24), [3, 5]))
    check_same(model, 0, small, trained.images("mlp", trained_runs["mlp"].parent))


def test_layers_are_in_order_beyond_nine():
    c = config.make("digits", "hat")
    c.network.widths = (9,) * 11  # "fc10" comes before "fc2" in a sorted tree
    model = untrained(c)
    assert len({len(u) for u in export.cut(model, 0).units.values()}) > 2
    small = export.cut(model, 0)
    assert list(small.units) == [f"fc{i}" for i in range(1, 12)]
    assert small.config.network.widths == tuple(len(u) for u in small.units.values())
    check_same(model, 0, small, np.arange(40).reshape(10, 2, 2, 1))


def test_what_it_saves(trained_runs):
    model = trained.model(trained_runs["alexnet"], "trained")
    small = export.cut(model, 1)
    report = savings.compare(model, 1, small, batch=4)
    # Kernels 3, 2, 2 on 24x24 images: 22 -> 11, 10 -> 5, 4 -> 2.
    for widths, said in (((6, 7, 8, 16, 14), "full"), (small.config.network.widths, "small")):
        a, b, c, d, e = widths
        macs = 484 * 27 * a + 100 * 4 * a * b + 16 * 4 * b * c + 4 * c * d + d * e + e * 2
        weights = 27 * a + 4 * (a * b + b * c + c * d) + d * e + e * 2 + sum(widths) + 2
        gates = sum(widths) if said == "full" else 0
        assert report[said]["multiply_adds"] == macs
        assert report[said]["parameters"] == weights + gates
        assert report[said]["bytes"] == 4 * (weights + gates)
        assert report[said]["milliseconds"] > 0
    assert report["images"] == "6 test images" and report["largest"] > 0
    assert report["difference"] <= 1e-6 * report["largest"]
    model.config.data.root = "/nowhere"
    again = savings.compare(model, 1, small, batch=4)
    assert again["images"] == (
        "256 random images ('mine' is not in the data root /nowhere)"
    )


def test_what_is_saved_is_all_it_takes(trained_runs, tmp_path):
    model = trained.model(trained_runs["mlp"], "trained")
    small = export.cut(model, 2)
    with files.folder(tmp_path / "there", export.FILES) as part:
        export.save(part, small, {"a": 1})
    shutil.move(tmp_path / "there", tmp_path / "here")
    again = export.load(tmp_path / "here")
    x = trained.images("mlp", tmp_path)[..., 0]  # grey, without a channel axis
    np.testing.assert_array_equal(export.predict(again, x), export.predict(small, x))
    assert again.config == small.config and again.task == small.task
    jax.tree.map(np.testing.assert_array_equal, again.units, small.units)

    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no exported network"):
        export.load(tmp_path / "empty")
    text = (tmp_path / "here" / "config.json").read_text()
    widths = json.loads(text)["network"]["widths"]
    other = json.loads(text)
    other["network"]["widths"] = [widths[0] + 1, widths[1]]
    (tmp_path / "here" / "config.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="do not fit its configuration"):
        export.load(tmp_path / "here")
    (tmp_path / "here" / "config.json").write_text(text)
    whole = (tmp_path / "here" / "network.npz").read_bytes()
    (tmp_path / "here" / "network.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be loaded"):
        export.load(tmp_path / "here")


class Own(nn.Module):
    """Two layers, of which the first may forget its gate."""

    widths: tuple[int, ...]
    gated: bool = True

    @property
    def units(self):
        return {"fc1": self.widths[0], "fc2": self.widths[1]}

    rules = {
        "fc1/kernel": (None, "fc1"), "fc1/bias": ("fc1",),
        "fc2/kernel": ("fc1", "fc2"), "fc2/bias": ("fc2",),
    }  # fmt: skip

    @nn.compact
    def __call__(self, x, gates):
        h = jax.nn.relu(nn.Dense(self.widths[0], name="fc1")(x.reshape(len(x), -1)))
        h = gate(h, gates, "fc1") if self.gated else h
        h = jax.nn.relu(nn.Dense(self.widths[1], name="fc2")(h))
        return gate(h, gates, "fc2")


def untrained(c) -> models.Model:
    """A model of two tasks on 2x2 images, as after a run: half of its units are closed."""
    c.approach.gate_init = "normal"
    network = networks.make(c, (2, 2, 1), (3, 3))
    method = approaches.make(c, network)
    ones, start = np.ones((2, 1)), jax.jit(method.init)(jax.random.key(0))
    return models.Model(
        c, ("a", "b"), (0, 1), network, method, *start, ones, ones, None, (2, 2, 1), (True, False)
    )


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda c, image: Own(c.widths), None),
        (lambda c, image: Own((8, 8)), "does not take the units"),
        (lambda c, image: Own(c.widths, gated=False), "does not use its units as its"),
    ],
)
def test_a_network_of_one_s_own(monkeypatch, make, says):
    monkeypatch.setitem(config.NETWORKS, "own", config.NetworkSpec(make))
    c = config.make("digits", "hat")
    c.network.name, c.network.widths = "own", (8, 8)
    model = untrained(c)
    monkeypatch.setattr(
        savings, "images_of", lambda *_: (np.arange(40).reshape(10, 2, 2, 1), "ten images")
    )
    if says is None:
        return check_same(model, 0, export.cut(model, 0), np.arange(40).reshape(10, 2, 2, 1))
    with pytest.raises(InputError, match=says):
        savings.compare(model, 0, export.cut(model, 0), 2)


NARROW = """
import flax.linen as nn
import hatjax
from hatjax import config

class Narrow(nn.Module):
    widths: tuple
    rules = {"fc1/kernel": (None, "fc1"), "fc1/bias": ("fc1",)}

    @property
    def units(self):
        return {"fc1": self.widths[0]}

    @nn.compact
    def __call__(self, x, gates):
        h = nn.Dense(self.widths[0], name="fc1")(x.reshape(len(x), -1))
        return nn.relu(h) * gates["fc1"]

hatjax.register("narrow", lambda config, image: Narrow(config.widths), widths=(8,))

def get_config():
    c = config.make("digits", "hat", network="narrow")
    c.tasks.count, c.epochs, c.data.examples = 2, 1, 100
    return c
"""


def test_commands_on_a_network_of_one_s_own(tmp_path):
    """The run's configuration file registers it for them; without that they say so."""
    file, where = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(NARROW)
    status, _, err = trained.command("main", f"--config={file}", f"--workdir={where}")
    assert status == 0, err
    status, out, err = trained.command("forget", where, "--task=1", f"--out={tmp_path}/out")
    assert status == 2 and out == "" and len(err.splitlines()) == 1
    assert "its network 'narrow' is not registered" in err and "--config=FILE" in err
    for command, more in (("forget", (f"--out={tmp_path}/out",)), ("export", ())):
        status, out, err = trained.command(command, where, "--task=1", f"--config={file}", *more)
        assert status == 0, err
    assert (tmp_path / "out" / "model").is_dir()
    status, _, err = trained.command("export", where, "--task=1", "--config=nope.py")
    assert status == 2 and "no configuration file nope.py" in err


@pytest.mark.parametrize("approach", ["sgd", "progressive", "pathnet"])
def test_only_hat_has_small_networks(approach):
    c = config.make("digits", approach)
    c.network.widths = (8, 8)
    with pytest.raises(InputError, match=f"'{approach}' has no gates"):
        export.cut(untrained(c), 0)


def test_a_task_must_be_learned():
    model = untrained(config.make("digits", "hat"))
    with pytest.raises(InputError, match="task 'b' is not learned"):
        export.cut(model, 1)
    with pytest.raises(InputError, match=r"the model has the tasks 0\.\.1"):
        export.cut(model, 2)


def test_the_command(trained_runs, tmp_path):
    for _ in range(2):  # the second replaces the first
        status, out, err = trained.command("export", trained_runs["mlp"], "--task=3", "--batch=2")
        assert status == 0, err
    where = trained_runs["mlp"] / "export" / "task3"
    assert sorted(p.name for p in where.iterdir()) == sorted(export.FILES)
    report = json.loads((where / "report.json").read_text())
    assert report["images"] == "359 test images" and report["batch"] == 2
    assert report["small"]["parameters"] < report["full"]["parameters"]
    assert "multiply-adds an image" in out and f"saved in {where}" in out
    model = models.load(trained_runs["mlp"])
    check_same(model, 2, export.load(where), trained.images("mlp", tmp_path))


def test_bad_input_is_one_line(trained_runs, tmp_path):
    c = config.make("digits", "random")
    c.tasks.count = 1
    run.run(c, tmp_path / "random")
    mine = trained_runs["mlp"]
    for args, says in {
        (mine, "--task=4"): "--task=4: the run has the tasks 1..3",
        (mine,): "--task=N is missing",
        (mine, "--tasks=1"): "Unknown command line flag 'tasks'",
        (tmp_path / "no", "--task=1"): "holds no run of hatjax",
        (tmp_path / "random", "--task=1"): "'random' has no gates",
        (mine, "--task=1", "--out=/proc/no"): "folder /proc/no cannot be written",
        (mine, "--task=1", f"--out={mine}"): "holds other files",
        ("--task=1",): "expected one workdir of a run",
    }.items():
        status, out, err = trained.command("export", *args)
        assert status == 2 and out == "" and says in err, err
        assert len(err.splitlines()) == 1 and err.startswith("error: ")
    assert models.load(mine).names == models.load(mine).names
    assert not list(mine.parent.glob(".*"))
