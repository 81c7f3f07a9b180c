"""Without being told the task: how sure the answers are, and which is taken."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import special

import hatjax
from hatjax.analysis import models, task_free
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.report import numbers, read
from hatjax.workdir import results
from tests import trained


def by_hand(logits: np.ndarray, mean: float, std: float) -> dict[str, np.ndarray]:
    """How sure a task's answers "b C" are, in float64."""
    logits = logits.astype(float)
    p = special.softmax(logits, -1)
    return {
        "softmax": p.max(-1),
        "entropy": -special.entr(p).sum(-1),
        "energy": (special.logsumexp(logits, -1) - mean) / std,
    }


def test_scores():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 5, 4)).astype(np.float32)
    logits[1, :, 2:] = -np.inf  # a task of two classes
    logits[2, 0] = [1e4, 0, -1e4, 5]
    calibration = np.array([[1.0, 2.0], [3.0, 0.5], [0.0, 10.0]], np.float32)
    found = task_free.scores(logits, calibration)
    for t in range(3):
        for i, (method, values) in enumerate(by_hand(logits[t], *calibration[t]).items()):
            assert method == task_free.METHODS[i]
            np.testing.assert_allclose(found[i, t], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", task_free.METHODS)
def test_it_is_the_surest_of_all_tasks(trained_runs, method):
    """As task after task is asked, and forgotten ones are not."""
    model = models.load(trained_runs["alexnet"])
    x = trained.images("alexnet", trained_runs["alexnet"].parent)
    for some in (model, hatjax.forget_task(model, 1, jax.random.key(0))):
        there = [t for t in range(3) if some.learned[t]]
        logits = [np.asarray(models.predict(some, x, t)) for t in there]
        sure = np.stack([
            by_hand(z, *some.energy[t])[method] for z, t in zip(logits, there, strict=True)
        ])  # fmt: skip
        found = hatjax.predict(some, x, method=method)
        best, second = np.sort(sure, 0)[::-1][:2]
        clear = best - second > 1e-4
        assert clear.any()
        np.testing.assert_array_equal(found.task[clear], np.array(there)[sure.argmax(0)][clear])
        np.testing.assert_allclose(found.score, best, rtol=1e-3, atol=1e-4)
        first = {t: 2 * t for t in range(3)}
        for i in np.flatnonzero(clear):
            z = logits[there.index(found.task[i])][i]
            assert found.within[i] == z.argmax()
            assert found.label[i] == first[found.task[i]] + z.argmax()


def test_a_run_says_what_it_achieves(trained_runs):
    """On its test images, in the order of pixels that a permuted task has."""
    for name in trained_runs:
        where = trained_runs[name]
        model, said = models.load(where), results.read_task_free(where)
        assert list(said) == list(task_free.METHODS) and np.isfinite(model.energy).all()
        sequence = run.prepare(model.config)[0]
        for t, task in enumerate(sequence):
            x = task.test.x
            if task.pixels is not None:
                x = x.reshape(len(x), -1)[:, task.pixels].reshape(x.shape)
            for method, readings in said.items():
                found = hatjax.predict(model, x, method=method)
                right = (found.task == t, (found.task == t) & (found.within == task.test.y),
                         found.within == task.test.y)  # fmt: skip
                for reading, of in zip(results.READINGS, right, strict=True):
                    assert readings[reading][t] == pytest.approx(of.mean(), abs=0.02)
        assert "without the task" in run.recall(where)
    found = np.mean(said["entropy"]["task_found"])
    assert 0 <= np.mean(said["entropy"]["class_incremental"]) <= found <= 1


def test_the_energy_is_of_the_held_out_examples(trained_runs):
    model = models.load(trained_runs["alexnet"])
    for t, task in enumerate(run.prepare(model.config)[0]):
        energy = special.logsumexp(np.asarray(models.predict(model, task.valid.x, t), float), -1)
        expected = energy.mean(), energy.std()
        np.testing.assert_allclose(model.energy[t], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how, says", [
    (dict(method="margin"), "unknown method 'margin'.*Known: energy, entropy, softmax"),
    (dict(probabilities=True), "probabilities=True needs a task"),
    (dict(x=np.zeros((2, 5, 5))), "the images are of shape"),
    (dict(energy=None, method="energy"), "before energies were calibrated"),
])  # fmt: skip
def test_what_is_refused(trained_runs, how, says):
    model, how = models.load(trained_runs["mlp"]), dict(how)
    x = how.pop("x", np.zeros((2, 8, 8), np.uint8))
    if "energy" in how:
        model = model._replace(energy=how.pop("energy"))
    with pytest.raises(InputError, match=says):
        hatjax.predict(model, x, **how)
    with pytest.raises(InputError, match="cannot be traced"):
        jax.jit(lambda x: hatjax.predict(model, x))(np.zeros((2, 8, 8), np.float32))
    assert hatjax.predict(model, np.zeros((0, 8, 8), np.uint8)).label.shape == (0,)


def test_the_report_has_it(trained_runs):
    records, _ = read.read_all([trained_runs["mlp"]])
    frame = numbers.all_values(records).runs
    said = results.read_task_free(trained_runs["mlp"])["entropy"]
    assert frame["task found"][0] == pytest.approx(np.mean(said["task_found"]))
    (trained_runs["mlp"] / "task_free.json").write_text(json.dumps({"entropy": {"x": [2]}}))
    records, notes = read.read_all([trained_runs["mlp"]])
    assert "task_free.json is damaged" in notes[0]
    assert np.isnan(numbers.all_values(records).runs["task found"][0])


def test_the_example(tmp_path):
    """Two processes: learn and save; load, add, find, forget, export."""
    script = Path(__file__).parents[1] / "examples" / "lifelong.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert not done.returncode, done.stderr
    assert "earlier logits moved by 0.0e+00" in done.stdout
    assert "task 1 forgotten; left: [0, 2, 3, 4]" in done.stdout
    found = [float(line.split("found ")[1].split("%")[0]) for line in done.stdout.splitlines()
             if "task found" in line]  # fmt: skip
    assert len(found) == 5 and np.mean(found) > 30  # by chance 20
