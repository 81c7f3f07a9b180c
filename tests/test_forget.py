"""A task forgotten on purpose: what it alone uses starts anew, the others do not change."""

import json
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hatjax
from hatjax import approaches, config, forget, networks
from hatjax.analysis import masks, metrics, models
from hatjax.data import feed, tasks
from hatjax.errors import InputError
from hatjax.report import gallery, numbers, read
from hatjax.training import train
from tests import trained

KEY = jax.random.key(7)


def outputs(model: models.Model, x: np.ndarray) -> dict[int, np.ndarray]:
    """The logits of the tasks that are not forgotten."""
    there = [t for t, learned in enumerate(model.learned) if learned]
    return {t: np.asarray(models.predict(model, x, t)) for t in there}


def brute_force(model: models.Model, others: list[int]) -> dict:
    """Which weights the others use, weight by weight: {layer: {"kernel", "bias"}}."""
    layers = list(model.network.units)
    found = {}
    for i, layer in enumerate(layers):
        shape = model.params["trunk"][layer]["kernel"].shape
        kernel, bias = np.zeros(shape, bool), np.zeros(shape[-1:], bool)
        for u in others:
            a = {k: np.asarray(v) > masks.DEAD for k, v in masks.masks(model, u).items()}
            bias |= a[layer]
            source = np.ones(shape[-2], bool) if i == 0 else np.resize(a[layers[i - 1]], shape[-2])
            kernel |= np.broadcast_to(np.outer(source, a[layer]), shape)
        found[layer] = {"kernel": kernel, "bias": bias}
    return found


@pytest.mark.parametrize("gates", trained.GATES)
@pytest.mark.parametrize("name", ["mlp", "alexnet"])
def test_the_others_do_not_change(trained_runs, name, gates):
    model = trained.model(trained_runs[name], gates)
    x = trained.images(name, trained_runs[name].parent)
    before, fresh = outputs(model, x), model.network.init(KEY)
    for task in range(3):
        new = forget.forget_task(model, task, KEY)
        others = [u for u in range(3) if u != task]
        after = outputs(new, x)
        for u in others:
            if gates == "trained":  # with gates that are nearly closed
                close = 1e-6 * np.abs(before[u]).max()
                np.testing.assert_allclose(after[u], before[u], rtol=0, atol=close)
            else:
                np.testing.assert_array_equal(after[u], before[u])
        assert (outputs(new._replace(learned=model.learned), x)[task] != before[task]).any()
        # Each weight is the old one where another task uses it, else a fresh one.
        expected = jax.tree.map(
            np.where, brute_force(model, others), model.params["trunk"], fresh["trunk"]
        )
        jax.tree.map(np.testing.assert_array_equal, new.params["trunk"], expected)
        row = model.rows[task]
        for part in ("gates", "head"):
            for k, p in new.params[part].items():
                np.testing.assert_array_equal(p[row], fresh[part][k][row])
                np.testing.assert_array_equal(
                    np.delete(p, row, 0), np.delete(model.params[part][k], row, 0)
                )
        for layer, past in new.memory["past"].items():
            most = np.max([masks.masks(model, u)[layer] for u in others], axis=0)
            np.testing.assert_array_equal(past, most)
        assert new.learned == tuple(u != task for u in range(3))
        freed = forget.released(model, task)
        assert (freed["units"] == freed["weights"] == 0) == (gates == "soft")


def test_a_forgotten_task_is_not_answered_for(trained_runs, tmp_path):
    model, x = models.load(trained_runs["mlp"]), trained.images("mlp", trained_runs["mlp"].parent)
    y = np.zeros(len(x), int)
    new = forget.forget_task(model, jnp.int32(1), KEY)
    forget.save(trained_runs["mlp"], tmp_path, new, 1)
    for m in (new, models.load(tmp_path), pickle.loads(pickle.dumps(new))):
        assert m.forgotten == (1,) and "1 not learned" in repr(m)
        for ask in (
            lambda m, t: hatjax.predict(m, x, t),
            lambda m, t: hatjax.predict(m, x, t, probabilities=True),
            lambda m, t: m.apply(m.params, x, t),
            lambda m, t: hatjax.evaluate(m, x, y, t),
            lambda m, t: hatjax.confusion(m, x, y, t),
            hatjax.task_masks,
            hatjax.cut,
            lambda m, t: hatjax.forget_task(m, t, KEY),
            lambda m, t: forget.released(m, t),
        ):
            with pytest.raises(InputError, match="permuted 1' is not learned: .* was forgotten"):
                ask(m, 1)
            ask(m, np.int64(2))
        with pytest.raises(InputError, match="is not learned"):
            hatjax.overlap(m)
        assert masks.overlap_of(m, (0, 2)).shape == (2, 2)
        # A traced task cannot be refused.
        logits = jax.vmap(lambda t, m=m: m.apply(m.params, x[:2], t))(jnp.arange(4))
        assert np.isnan(logits).all(axis=(1, 2)).tolist() == [False, True, False, True]
    record, notes = read.read(tmp_path)
    assert not notes
    found = numbers.all_values([record])
    kinds = [picture.kind for picture, _ in gallery.of_example("g", record, found, notes)]
    assert "fig6" in kinds and not notes


def test_a_weight_between_units_of_two_tasks_serves_neither():
    c = config.make("digits", "hat")
    c.network.widths = (2, 2)
    network = networks.make(c, (1, 1, 1), (2, 2, 2))
    method = approaches.make(c, network)
    params, _ = method.init(jax.random.key(0))
    # Task a uses the first unit of both layers, b the second, c all.
    e = jnp.array([[6.0, -6], [-6, 6], [6, 6]])
    params = params | {"gates": {"fc1": e, "fc2": e}}
    past = {"past": {"fc1": jnp.ones(2), "fc2": jnp.ones(2)}}
    ones, there = np.ones((3, 1)), (True,) * 3
    model = models.Model(
        c, ("a", "b", "c"), (0, 1, 2), network, method, params, past, ones, ones, None,
        (1, 1, 1), there,
    )  # fmt: skip
    new = forget.forget_task(model, 2, KEY)
    kept = new.params["trunk"]["fc2"]["kernel"] == params["trunk"]["fc2"]["kernel"]
    np.testing.assert_array_equal(kept, np.eye(2, dtype=bool))
    assert forget.released(model, 2) == {"units": 0, "weights": 2}
    x = np.arange(8).reshape(8, 1, 1, 1)
    for u in range(2):
        np.testing.assert_array_equal(outputs(new, x)[u], outputs(model, x)[u])


def test_one_after_the_other_until_nothing_is_left(trained_runs):
    model = trained.model(trained_runs["mlp"], "binary")
    x = trained.images("mlp", trained_runs["mlp"].parent)
    before = outputs(model, x)
    first = forget.forget_task(model, 1, KEY)
    second = forget.forget_task(first, 0, jax.random.key(8))
    np.testing.assert_array_equal(outputs(second, x)[2], before[2])
    # The fresh embeddings of the forgotten tasks hold nothing.
    last = masks.masks(model, 2)
    jax.tree.map(np.testing.assert_array_equal, second.memory["past"], last)
    with pytest.raises(InputError, match="is not learned"):
        forget.forget_task(second, 1, KEY)
    none = forget.forget_task(second, 2, jax.random.key(9))
    fresh = model.network.init(jax.random.key(9))
    jax.tree.map(np.testing.assert_array_equal, none.params["trunk"], fresh["trunk"])
    assert not any(jnp.any(a) for a in none.memory["past"].values())


def test_the_place_of_a_forgotten_task_can_be_learned_again(trained_runs):
    model = trained.model(trained_runs["mlp"], "binary")
    x = trained.images("mlp", trained_runs["mlp"].parent)
    new, before = forget.forget_task(model, 1, KEY), outputs(model, x)
    sequence = tasks.make(model.config)
    data = feed.put(sequence, 1, "train", feed.capacity(sequence, "train", model.config.batch))
    program = train.compile(model.config, model.approach)
    hyper = train.hyperparameters(model.config)
    turn = feed.turn(sequence, 1)
    state = program.begin(new.params, new.memory, turn, KEY, hyper)
    scores = []
    for _ in range(6):
        state, some = program.epoch(state, data, data, turn, hyper)
        scores.append(some["valid_loss"])
    assert scores[-1] < scores[0] - 0.1  # it learns
    params, memory = program.end(state, data, turn, hyper)
    after = outputs(new._replace(params=params, memory=memory), x)
    for u in (0, 2):
        np.testing.assert_array_equal(after[u], before[u])


def test_the_command(trained_runs, tmp_path):
    source = trained_runs["mlp"]

    def contents():
        return {p: p.read_bytes() for p in sorted(source.rglob("*")) if p.is_file()}

    old, there = models.load(source), contents()
    status, out, err = trained.command("forget", source, "--task=2", f"--out={tmp_path}/a/b")
    assert status == 0, err
    assert "weights that it alone used start anew" in out and "capacity used" in out
    assert contents() == there and not list((tmp_path / "a").glob(".*"))
    new = models.load(tmp_path / "a" / "b")
    assert new.learned == (True, False, True) and new.names == old.names
    x = trained.images("mlp", source.parent)
    for u in (0, 2):
        close = 1e-6 * float(jnp.abs(models.predict(old, x, u)).max())
        np.testing.assert_allclose(
            models.predict(new, x, u), models.predict(old, x, u), rtol=0, atol=close
        )
    for k in ("accuracy", "loss"):
        was, now = np.load(source / f"{k}.npy"), np.load(tmp_path / "a" / "b" / f"{k}.npy")
        unknown = np.array([[0, 0, 0], [0, 1, 0], [0, 1, 0]], bool)
        np.testing.assert_array_equal(now, np.where(unknown, np.nan, was))
    lines = (tmp_path / "a" / "b" / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in lines} == {0, 2}

    for args, says in {
        (source, "--task=2"): "--out=DIR is missing",
        (source, "--task=2", f"--out={tmp_path}/a/b"): "holds other files",
        (tmp_path / "a" / "b", "--task=2", f"--out={tmp_path}/c"): "is not learned",
    }.items():
        status, out, err = trained.command("forget", *args)
        assert status == 2 and out == "" and says in err, err
        assert len(err.splitlines()) == 1 and err.startswith("error: ")
    assert not (tmp_path / "c").exists() and contents() == there


def test_an_unfinished_run_is_refused(trained_runs, tmp_path):
    """Its later tasks would count as accuracies of 0, and its checkpoint be lost."""
    where = tmp_path / "run"
    shutil.copytree(trained_runs["mlp"], where)
    (where / "done").unlink()
    for name in ("accuracy", "loss"):
        table = np.load(where / f"{name}.npy")
        table[2] = 0
        np.save(where / f"{name}.npy", table)
    status, out, err = trained.command("forget", where, "--task=1", f"--out={tmp_path}/out")
    assert status == 2 and out == "" and not (tmp_path / "out").exists()
    assert "has not learned all its tasks (task 3 is next): let it finish" in err


def test_means_leave_forgotten_tasks_out():
    acc = np.array([[0.9, 0, 0], [0.8, np.nan, 0], [0.6, np.nan, 0.5]])
    assert metrics.average_accuracy(acc) == pytest.approx(0.55)
    assert metrics.backward_transfer(acc) == pytest.approx(-0.3)
    assert metrics.forgetting(acc) == pytest.approx(0.3)
    assert metrics.backward_transfer(np.array([[np.nan, 0], [np.nan, 0.5]])) == 0
