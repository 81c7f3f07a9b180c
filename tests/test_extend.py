"""Tasks are added to what was learned: nothing of it changes, and all that a run has goes on."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hatjax
from hatjax import approaches, config, networks, plans
from hatjax.analysis import metrics, models
from hatjax.data import feed
from hatjax.errors import InputError
from hatjax.experiment import checkpoint, extending, run
from hatjax.training import growing, train
from hatjax.types import State, Turn
from hatjax.workdir import results
from tests import test_past as past
from tests.same import all_the_same
from tests.trained import command

TINY = dict(epochs=2, network={"widths": (12, 12)}, quiet=True)
QUICK = (("mlp", "sgd"), ("convnet", "adamw"), ("vit", "momentum"))


def learn(c, tasks, approach, params, memory, t, key):
    """A pass over task t, to its end, as if its gates had become 0 and 1."""
    hyper, turn = train.hyperparameters(c), feed.turn(tasks, t)
    data = feed.put(tasks, t, "train", feed.capacity(tasks, "train", c.batch))

    @jax.jit
    def learned(params, memory, data, turn, key):
        step = train.evaluation_step(turn, hyper)._replace(key=key)
        params, memory = approach.begin_task(params, memory, step)
        schedule, memory = approach.schedule.start(params, memory, step)
        moments = train.moments(approach, approach.take(params, memory, step), memory, step)
        state = State(params, memory, moments, schedule, key)
        order = feed.shuffle(key, data)
        state, _, _ = train.run_steps(c, approach, state, data, order, turn, key, hyper)
        return approach.end_task(past.binary(state.params, turn.task, key), memory, data, step)

    return learned(params, memory, data, turn, key)


@pytest.mark.parametrize("name, optimizer", [
    (n, o) if (n, o) in QUICK else pytest.param(n, o, marks=pytest.mark.slow)
    for n in past.NETWORKS for o in past.OPTIMIZERS
])  # fmt: skip
def test_what_was_learned_answers_as_before(name, optimizer):
    """Bit by bit: after the network has grown, wider heads and all, and after the new task."""
    c, tasks, _, whole = past.small(name, optimizer)
    image, key, hyper = past.NETWORKS[name][1], jax.random.key(0), train.hyperparameters(c)
    first = approaches.make(c, networks.make(c, image, past.CLASSES[:1]))
    params, memory = first.init(key)
    params, memory = learn(c, tasks[:1], first, params, memory, 0, key)
    x = (tasks[0].test.x - np.float32(127)) / 74

    def answers(approach, params, memory):
        predict = jax.jit(lambda p, m, x: approach.predict(p, m, x, 0, hyper))
        return np.asarray(predict(params, memory, x))[:, : past.CLASSES[0]]

    before = answers(first, params, memory)
    classes = past.CLASSES[:1], past.CLASSES
    fresh = whole.init(jax.random.key(1))
    params, memory = growing.grow(whole, classes, (params, memory), fresh)
    np.testing.assert_array_equal(answers(whole, params, memory), before)
    start = params
    params, memory = learn(c, tasks, whole, params, memory, 2, jax.random.key(2))
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), start["trunk"], params["trunk"])
    assert any(jax.tree.leaves(changed))  # there was something to protect
    np.testing.assert_array_equal(answers(whole, params, memory), before)


def digits(approach: str = "hat", **changes):
    c = config.make("digits", approach)
    c.network.widths, c.tasks.count, c.data.examples = (12, 12), 2, 200
    c.epochs, c.eval_batch = 2, 100
    if approach == "pathnet":
        c.approach.generations = 2
    c.update(changes)
    return c


def split(approach: str = "hat", **changes):
    """Two tasks of five classes each."""
    c = digits(approach, **changes)
    c.tasks.kind = "split"
    return c


def more(where: Path, approach: str = "hat", **changes):
    """Two tasks of ten classes each, after those of a run."""
    c = digits(approach, **changes)
    c.extends.run = str(where)
    return c


@pytest.mark.parametrize("name", approaches.APPROACHES)
def test_every_approach_grows(name):
    """What it remembers of two tasks has room for three, the last with more classes."""
    c = digits(name)
    c.extends.tasks = (2,)  # as in the run that extends it: a progressive network's widths
    made = [networks.make(c, (4, 4, 1), classes) for classes in ((3, 2), (3, 2, 4))]
    old, new = (approaches.make(c, network) for network in made)
    learned, fresh = old.init(jax.random.key(0)), new.init(jax.random.key(1))
    params, memory = growing.grow(new, tuple(n.classes for n in made), learned, fresh)
    assert jax.tree.map(jnp.shape, (params, memory)) == jax.tree.map(jnp.shape, fresh)
    x, hyper = jax.random.normal(jax.random.key(2), (6, 4, 4, 1)), train.hyperparameters(c)
    for t in range(2):
        before = old.predict(*learned, x, t, hyper)[:, : made[0].classes[t]]
        after = new.predict(params, memory, x, t, hyper)[:, : made[0].classes[t]]
        np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize("name", ["er", "derpp", "agem", "lwf"])
def test_shared_norms_go_on(name):
    """A task that was added begins with the norms that all tasks share, not with fresh ones."""
    c = config.make("digits", name, network="convnet")
    c.network.widths = (8, 8)
    made = [networks.make(c, (8, 8, 1), classes) for classes in ((5, 5), (5, 5, 5))]
    old, new = (approaches.make(c, network) for network in made)
    hyper, key = train.hyperparameters(c), jax.random.key(2)
    first, added = (train.evaluation_step(Turn(t, t), hyper)._replace(key=key) for t in (1, 2))
    params, memory = old.init(jax.random.key(0))
    learned = {part: jax.tree.map(lambda p: p + 3, params[part]) for part in ("norms", "stats")}
    learned = old.end_task(params | learned, memory, None, first)
    grown = growing.grow(new, tuple(n.classes for n in made), learned, new.init(jax.random.key(1)))
    own = new.take(*new.begin_task(*grown, added), added)
    for part in ("norms", "stats"):
        for p, q in zip(jax.tree.leaves(own[part]), jax.tree.leaves(params[part]), strict=True):
            np.testing.assert_array_equal(p[0], q[1] + 3)


def test_s_may_be_annealed_in_another_way():
    """What is remembered of the epochs of a task does not stand in the way."""
    cs = [digits(), digits()]
    cs[1].approach.anneal, cs[1].approach.gate_init, cs[1].schedule = "dip_task", "dense", "cosine"
    classes = ((3, 3), (3, 3, 3))
    for before, after in (cs, cs[::-1]):
        one, two = (
            approaches.make(c, networks.make(c, (4, 4, 1), k))
            for c, k in zip((before, after), classes, strict=True)
        )
        learned, fresh = one.init(jax.random.key(0)), two.init(jax.random.key(1))
        past = jax.tree.map(lambda p: p + 0.5, learned[1]["past"])
        _, memory = growing.grow(two, classes, (learned[0], learned[1] | {"past": past}), fresh)
        assert memory.keys() == fresh[1].keys() and memory["past"].keys() == past.keys()
        assert all((p == 0.5).all() for p in memory["past"].values())


def test_what_cannot_grow_is_said():
    """An array that depends on the number of tasks in another way is refused, not guessed."""
    c = digits()
    made = [networks.make(c, (4, 4, 1), classes) for classes in ((3, 2), (3, 2, 4))]
    old, new = (approaches.make(c, network) for network in made)
    learned, fresh = (a.init(jax.random.key(0)) for a in (old, new))
    for shapes in ((12, 8), (4, 2)):  # shares of a buffer, say
        mine, theirs = (
            (params, memory | {"buffer": {"x": jnp.zeros(n)}})
            for (params, memory), n in zip((learned, fresh), shapes, strict=True)
        )
        with pytest.raises(ValueError, match="buffer/x is of shape"):
            growing.grow(new._replace(grow=None), ((3, 2), (3, 2, 4)), mine, theirs)
        with pytest.raises(ValueError, match="it remembers 'buffer', too: say how that grows"):
            growing.grow(new, ((3, 2), (3, 2, 4)), mine, theirs)
    twice = new._replace(grow=lambda memory, fresh: memory | {"twice": True})
    _, memory = growing.grow(twice, ((3, 2), (3, 2, 4)), learned, fresh)
    assert memory["twice"]


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[] if name in ("hat", "progressive") else pytest.mark.slow)
    for name in approaches.APPROACHES
])  # fmt: skip
def test_a_run_goes_on(tmp_path, name):
    """In a new workdir, with more classes; the old one stays as it is."""
    run.run_sweep(tmp_path / "a", {"": split(name)}, quiet=True)
    contents = read(tmp_path / "a")
    c = more(tmp_path / "a", name, tasks=dict(count=1))
    (acc,) = run.run_sweep(tmp_path / "b", {"": c}, quiet=True)
    assert contents == read(tmp_path / "a")
    old, new = models.load(tmp_path / "a"), models.load(tmp_path / "b")
    assert acc.shape == (3, 3) and (acc[np.tril_indices(3)] > 0).all()
    np.testing.assert_array_equal(acc[:2, :2], old.accuracy)
    assert new.names == (*old.names, "digits permuted 0") and all(new.learned)
    assert new.network.classes == (5, 5, 10) and new.config.extends.tasks == (2,)
    epochs = results.read_rows(tmp_path / "b" / "metrics.jsonl")
    assert {row["task"] for row in epochs} == ({0, 1, 2} if old.approach.trained else set())


def read(where: Path) -> dict[Path, bytes]:
    """The content of all files in a folder."""
    return {p: p.read_bytes() for p in sorted(where.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs of two seeds, and in "more" those that go on from them; in "again" one goes on again."""
    folder = tmp_path_factory.mktemp("runs")
    run.run_sweep(folder / "two", plans.replicas(split(seeds=2)), quiet=True)
    run.run_sweep(folder / "more", plans.replicas(more(folder / "two", seeds=2)), quiet=True)
    third = more(folder / "more" / "seed0", seed=3, tasks=dict(count=1))
    run.run_sweep(folder / "again", {"": third}, quiet=True)
    return folder


def test_seeds_go_on_together_and_again(runs):
    for seed in ("seed0", "seed1"):
        old, new = models.load(runs / "two" / seed), models.load(runs / "more" / seed)
        assert new.names[:2] == old.names and len(new.names) == 4
        assert new.config.extends.run == str(runs / "two" / seed)
        np.testing.assert_array_equal(new.accuracy[:2, :2], old.accuracy)
        heads = [m.params["head"]["bias"] for m in (old, new)]
        np.testing.assert_array_equal(heads[1][:2, :5], heads[0])
    assert new.names == (*old.names, "digits permuted 0", "digits permuted 1")
    again = models.load(runs / "again")
    assert again.names[-1] == "digits permuted 0 (2)" and again.config.extends.tasks == (2, 2)
    assert [c.tasks.kind for c in again.earlier] == ["split", "permuted"]
    assert "capacity used" in run.recall(runs / "again")


def test_it_resumes_to_the_same_bits(runs, tmp_path, monkeypatch):
    class Cut(BaseException):
        pass

    def cut(inputs, progress, only=None, save=checkpoint.save):
        save(inputs, progress, only)
        raise Cut

    c = more(runs / "two" / "seed0", tasks=dict(count=1), checkpoint=dict(epochs=1))
    run.run_sweep(tmp_path / "whole", {"": c}, quiet=True)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", cut)
        with pytest.raises(Cut):
            run.run_sweep(tmp_path / "cut", {"": c}, quiet=True)
    other = more(runs / "two" / "seed1", tasks=dict(count=1), checkpoint=dict(epochs=1))
    with pytest.raises(InputError, match="of another configuration .*extends.run"):
        run.run_sweep(tmp_path / "cut", {"": other}, quiet=True)
    run.run_sweep(tmp_path / "cut", {"": c}, quiet=True)
    all_the_same(tmp_path / "cut", tmp_path / "whole")
    assert run.finished(tmp_path / "cut", extending.complete({"": c}))


def test_images_that_are_streamed_give_the_same_bits(runs, tmp_path):
    for stream in ("no", "yes"):
        c = more(runs / "two" / "seed0", tasks=dict(count=1), data=dict(stream=stream))
        run.run_sweep(tmp_path / stream, {"": c}, quiet=True)
    for name in ("accuracy.npy", "loss.npy", "metrics.jsonl", "task_free.json"):
        one, other = ((tmp_path / stream / name).read_bytes() for stream in ("no", "yes"))
        assert one == other, name


@pytest.mark.parametrize("changes, says", [
    (dict(tasks=dict(kind="split", count=2)), "is there already, as 'digits [05]-[49]'"),
    (dict(network=dict(widths=(12, 13))), r"config.network.widths: .*leave it as it was"),
    (dict(fidelity="code"), "config.fidelity: paper, now code"),
    ({"approach": {"s_max": 100.0}}, "config.approach.s_max: 400.0, now 100.0"),
    (dict(data=dict(image=(10, 10, 1))), r"of task 'digits permuted 0' are \(10, 10, 1\)"),
    (dict(extends=dict(run="/nowhere")), "/nowhere holds no run"),
])  # fmt: skip
def test_what_is_refused(runs, tmp_path, changes, says):
    c = more(runs / "two" / "seed0")
    c.update(changes)
    with pytest.raises(InputError, match=says):
        run.run_sweep(tmp_path / "new", {"": c}, quiet=True)
    assert not (tmp_path / "new").exists()


def test_another_approach_and_unfinished_runs_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="is of 'hat'; choose it by --config"):
        extending.complete({"": more(runs / "two" / "seed0", "sgd")})
    with pytest.raises(InputError, match="has not learned all its tasks"):
        results_of = tmp_path / "begun"
        results_of.mkdir()
        (results_of / "config.json").write_text(config.to_json(split()))
        extending.complete({"": more(results_of)})
    other = more(runs / "two" / "seed0")
    other.approach.c = 3.0
    assert extending.complete({"": other})[""].extends.tasks == (2,)


def test_the_command(runs, tmp_path):
    """What is not given is the run's that it extends."""
    flags = ("--config", "configs/hat_digits.py", "--config.tasks.count=1", "--config.epochs=1",
             f"--extend={runs / 'more'}", "--config.seeds=2", "--config.seed=0")  # fmt: skip
    status, out, err = command("main", *flags, "--dry_run")
    assert status == 2 and "is there already" in err
    flags = (*flags[:-2], f"--extend={runs / 'again'}", "--config.seed=7")
    status, out, err = command("main", *flags, "--dry_run")
    assert not status and "again: 5 tasks learned" in out and "capacity used" in out, err
    status, out, err = command("main", *flags, f"--workdir={tmp_path / 'w'}")
    assert not status, err
    assert "5 tasks learned" in out and out.count("capacity used") == 2
    assert models.load(tmp_path / "w").config.network.widths == (12, 12)
    status, out, _ = command("main", *flags, f"--workdir={tmp_path / 'w'}")
    assert not status and "finished before" in out
    status, out, err = command("main", *flags, "--config.network.widths=(9,9)")
    assert status == 2 and "config.network.widths" in err


def arrays(n: int = 60, classes: int = 3, seed: int = 0, shape: tuple = (4, 4)):
    """Images whose brightness is their class."""
    rng, y = np.random.default_rng(seed), np.arange(n) % classes
    x = rng.integers(0, 60, (n, *shape)) + (60 * y).reshape(-1, *[1] * len(shape))
    return x.astype(np.uint8), y, x[:12].astype(np.uint8), y[:12]


@pytest.fixture(scope="module")
def learned():
    sets = [arrays(), arrays(90, classes=2, seed=1)]
    return hatjax.fit(sets, **TINY), sets


def test_arrays(learned, tmp_path):
    result, sets = learned
    tests = [s[2:] for s in sets]
    new = [arrays(classes=4, seed=2), arrays(seed=3)]
    more = hatjax.extend(result.model, new, earlier=tests, workdir=tmp_path / "w", quiet=True)
    assert more.accuracy.shape == (4, 4) and more.model.names[-1] == "task 3"
    np.testing.assert_array_equal(more.accuracy[:2, :2], result.accuracy)
    assert more.model.config.epochs == result.model.config.epochs
    for t, (x, y) in enumerate(tests):
        assert hatjax.evaluate(more.model, x, y, t) == pytest.approx(more.accuracy[3, t], abs=1e-6)
    again = hatjax.extend(result.model, new, earlier=tests, workdir=tmp_path / "w", quiet=True)
    np.testing.assert_array_equal(again.accuracy, more.accuracy)  # it had finished
    with pytest.raises(InputError, match="another configuration"):
        hatjax.extend(
            hatjax.forget_task(result.model, 0, jax.random.key(0)), new,
            earlier=tests, workdir=tmp_path / "w", quiet=True,
        )  # fmt: skip


def test_a_forgotten_task_stays_unknown_and_may_come_again(learned):
    result, sets = learned
    model = hatjax.forget_task(result.model, 1, jax.random.key(0))
    assert np.isnan(model.accuracy[1, 1]) and not np.isnan(result.model.accuracy).any()
    more = hatjax.extend(model, [sets[1]], earlier=[sets[0][2:], None], quiet=True, epochs=3)
    assert np.isnan(more.accuracy[1:, 1]).all()
    assert not np.isnan(np.delete(more.accuracy, 1, 1)).any()
    assert more.model.learned == (True, False, True) and more.model.forgotten == (1,)
    with pytest.raises(InputError, match="not learned"):
        hatjax.predict(more.model, sets[1][2], 1)
    assert 0 <= metrics.average_accuracy(more.accuracy) <= 1


def test_joint_training_needs_the_training_examples(learned):
    _, sets = learned
    model = hatjax.fit(sets, "joint", **TINY).model
    with pytest.raises(InputError, match="trains on all tasks at once: give the four"):
        hatjax.extend(model, [arrays(seed=4)], earlier=[s[2:] for s in sets], quiet=True)
    assert hatjax.extend(model, [arrays(seed=4)], earlier=sets, quiet=True).accuracy.shape == (3, 3)


@pytest.mark.parametrize("of, how, says", [
    (lambda m, s: m, dict(), "earlier= is missing"),
    (lambda m, s: m, dict(earlier=[None]), "1 sets: expected one for each of the model's 2 tasks"),
    (lambda m, s: m, dict(earlier=[(1,), (2,)]), r"earlier\[0\]: expected \(x_test, y_test\)"),
    (lambda m, s: m, dict(earlier=3), "the sets are a int"),
    (lambda m, s: m, dict(earlier="swapped"), "not those that the model was tested on"),
    (lambda m, s: 3, dict(), "the model is a int"),
    (lambda m, s: m._replace(accuracy=None), dict(), "does not know its accuracies"),
    (lambda m, s: m._replace(learned=(True, False)), dict(), "has not learned its task 'task 1'"),
    (lambda m, s: m, dict(earlier="tests", network={"widths": (3,)}), "network.widths: "),
    (lambda m, s: m, dict(earlier="tests", sets=[]), "no tasks"),
    (lambda m, s: m, dict(earlier="tests", approach="hat"), "approach = 'hat': it is that of the"),
    (lambda m, s: m, dict(earlier="tests", sets="old"), "is there already, as 'task 0'"),
    (lambda m, s: m, dict(earlier="tests", sets="larger"), "reads images of one shape"),
])  # fmt: skip
def test_what_extend_refuses(learned, of, how, says):
    result, sets = learned
    tests = [s[2:] for s in sets]
    given = {"tests": tests, "swapped": [tests[0], (tests[0][0], tests[0][1] % 2)]}
    new = {"old": sets[:1], "larger": [arrays(shape=(5, 5))]}
    how = dict(how)
    some = how.pop("sets", [arrays(seed=9)])
    if isinstance(how.get("earlier"), str):
        how["earlier"] = given[how["earlier"]]
    with pytest.raises(InputError, match=says) as told:
        hatjax.extend(
            of(result.model, sets), new[some] if isinstance(some, str) else some, quiet=True, **how
        )
    assert "--" not in str(told.value) and "\n" not in str(told.value)


def test_a_study_goes_on_from_the_runs_of_another():
    fields = {"extends": {"run": "results/first"}}
    study = plans.study("second", {"digits": fields}, approaches=("hat", "ewc"), seeds=2)
    for name, c in plans.runs(study).items():
        assert c.extends.run == f"results/first/{name}"
