"""The numbers of the published code, repeated step by step with fidelity "code"."""

import functools
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, networks
from hatjax.data import feed, tasks
from hatjax.data.tasks import holdout
from hatjax.protection import free
from hatjax.training import plateau, train
from hatjax.types import Split, State, Task
from tests.golden_layout import kernel_rows, to_torch, to_tree

FOLDER = Path(os.environ.get("HATJAX_GOLDEN", Path(__file__).parent / "golden"))
NETWORKS = {"mlp": "mlp", "mlp_hat": "mlp", "alexnet": "alexnet", "alexnet_hat": "alexnet"}
NETWORKS |= {f"alexnet_{name}": "alexnet" for name in ("lfl", "progressive", "pathnet")}
NOT_CASES = ("plateau", "tasks", "random")  # files of other kinds


def cases() -> list[str]:
    return sorted(p.stem for p in FOLDER.glob("*.npz") if p.stem not in NOT_CASES)


class Case:
    """One golden file: its data as tasks, its parameters as ours, its numbers as a config."""

    def __init__(self, name: str):
        self.z = np.load(FOLDER / f"{name}.npz", allow_pickle=False)
        self.meta = json.loads(str(self.z["meta"]))
        self.approach = self.meta["approach"].replace("-", "_")
        self.count = len(self.meta["classes"])
        self.tasks = [self.task(t) for t in range(self.count)]
        self.config = self.make_config()
        image = self.tasks[0].train.x.shape[1:]
        self.network = networks.make(self.config, image, tuple(self.meta["classes"]))
        self.rows = kernel_rows(self.meta)
        self.shapes = {k[5:]: self.z[k].shape for k in self.z if k.startswith("init/")}

    def task(self, t: int) -> Task:
        x = self.z[f"x/{t}"].transpose(0, 2, 3, 1)
        split = Split(x, self.z[f"y/{t}"])
        c = x.shape[-1]
        classes = self.meta["classes"][t]
        return Task(str(t), t, classes, split, split, split, np.zeros(c), np.ones(c))

    def make_config(self):
        h = self.meta["hyperparameters"]
        c = config.make("mnist2", self.approach)
        c.network.name = NETWORKS[self.meta["network"]]
        c.fidelity = "code"
        c.lr, c.batch, c.eval_batch = h["lr"], h["batch"], h["batch"]
        widths = self.meta["widths"]
        c.network.widths = tuple(v for k, v in widths.items() if k.startswith(("c", "fc")))
        if self.approach == "progressive":  # the widths are those of a column
            c.network.expand = float(self.count)
        if self.approach == "pathnet":  # a tournament of the given paths, one generation
            c.network.expand, c.network.modules, c.network.active = 1.0, widths["M"], widths["N"]
            c.approach.rivals, c.approach.generations = len(self.z["state/0/path"]), 1
            c.epochs = self.meta["epochs"]
        c.network.dropout_in = 0.0
        del c.network.dropout
        c.network.dropout = 0.0 if c.network.name == "mlp" else (0.0,) * 5
        ours = {"smax": "s_max", "thres_cosh": "cosh_max", "thres_emb": "e_max"}
        ours |= {"reg": "lamb", "T": "temperature"}
        ours |= {"lamb": "c"} if self.approach == "hat" else {}
        for key, value in h.items():
            if ours.get(key, key) in c.approach:
                c.approach[ours.get(key, key)] = float(value)
        return c

    def close(self, key: str, got) -> None:
        """max|got - want| <= tolerance max|want|, the tolerance of the kind of `key`."""
        want, kind = self.z[key], key.split("/")[0]
        assert np.shape(got) == want.shape, key
        error = np.max(np.abs(np.asarray(got, np.float64) - want))
        assert error <= self.meta["tolerance"][kind] * np.max(np.abs(want)), (key, error)

    def to_torch(self, params) -> dict[str, np.ndarray]:
        return to_torch(params, self.shapes, self.meta, self.rows)

    def close_params(self, prefix: str, params) -> None:
        """All of the published parameters but those of the heads' laterals, which do nothing."""
        arrays = self.to_torch(params)
        unused = {name for name in self.shapes if name.startswith(("Vfl", "Ufl"))}
        assert arrays.keys() == self.shapes.keys() - unused
        for name, got in arrays.items():
            key = f"{prefix}/{name}"
            self.close(key if key in self.z else f"params/{prefix.split('/')[1]}/{name}", got)


@pytest.mark.parametrize("name", cases())
def test_case(name):
    case = Case(name)
    c, z = case.config, case.z
    params = to_tree({k[5:]: z[k] for k in z if k.startswith("init/")}, case.meta, case.rows)
    start = jax.tree.map(jnp.asarray, params)
    approach = approaches.make(c, case.network._replace(init=lambda key: start))
    hyper, key = train.hyperparameters(c), jax.random.key(0)
    expected = jax.eval_shape(approach.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, expected[0])
    memory = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), expected[1])

    @jax.jit
    def one_pass(state, data, order, turn):
        return train.run_steps(c, approach, state, data, order, turn, key, hyper)

    end = jax.jit(approach.end_task)
    predict = jax.jit(approach.predict)
    evaluate = jax.jit(functools.partial(train.evaluate, c, approach))

    for t in range(case.count):
        length = feed.capacity(case.tasks, "train", c.batch, approach.union)
        data = feed.put(case.tasks, t, "train", length, approach.union)
        turn = jax.device_put(feed.turn(case.tasks, t))
        step = train.evaluation_step(turn, hyper)._replace(key=key)
        params, memory = approach.begin_task(params, memory, step)
        schedule, memory = approach.schedule.start(params, memory, step)
        own = approach.take(params, memory, step)
        optimizer = train.moments(approach, own, memory, step)
        state = State(params, memory, optimizer, schedule, key)
        if case.approach == "pathnet":
            check_start(case, t, params)
            rivals = jnp.asarray(z[f"state/{t}/path"], jnp.int32)
            memory["paths"] = memory["paths"].at[t].set(rivals[0])
            state = state._replace(schedule=schedule._replace(rivals=rivals), memory=memory)
        for e in range(case.meta["epochs"]):
            order = z[f"order/{t}/{e}"].astype(np.int32)
            if e == 0:
                alone = data._replace(n=jnp.int32(c.batch))  # a pass of one step
                first = one_pass(state, alone, padded(order, length), turn)
                case.close_params(f"first/{t}", first[0].params)
            state, losses, _ = one_pass(state, data, padded(order, length), turn)
            case.close(f"loss/{t}/{e}", losses[: len(z[f"loss/{t}/{e}"])])
            if e + 1 == case.meta["epochs"]:
                case.close_params(f"params/{t}", state.params)
            if case.approach == "pathnet":
                state = next_rival(case, t, e, approach, state, evaluate, data, turn, step)
        before = memory
        params, memory = end(state.params, state.memory, data, step)
        case.close_params(f"end/{t}", params)
        check_state(case, t, params, memory, hyper)
        check_fisher(case, t, params, before, memory)
        for u in range(t + 1):
            data = feed.put(case.tasks, u, "test", length)
            got = evaluate(params, memory, data, feed.turn(case.tasks, u), hyper)
            case.close(f"eval/{t}/{u}", [got["loss"], got["accuracy"]])
            x = case.tasks[u].test.x[:6]
            logits = predict(params, memory, x, u, hyper)
            case.close(f"logits/{t}/{u}", logits[:, : case.meta["classes"][u]])


def padded(order: np.ndarray, length: int) -> np.ndarray:
    return np.pad(order, (0, length - len(order)))


def check_start(case: Case, t: int, params) -> None:
    """Modules of no earlier path are as at first, and the others as the last task left them."""
    arrays = case.to_torch({"trunk": params["trunk"]})
    for name, got in arrays.items():
        before = [f"start/{t}/{name}", f"end/{t - 1}/{name}", f"params/{t - 1}/{name}"]
        key = next((k for k in before if k in case.z), f"init/{name}")
        error = np.max(np.abs(got - case.z[key]))
        assert error <= 1e-5 * np.max(np.abs(case.z[key])), key


def next_rival(case: Case, t: int, e: int, approach, state, evaluate, data, turn, step) -> State:
    """The tournament after an epoch, the training data serving as validation data."""
    scores = evaluate(state.params, state.memory, data, turn, step.hyper)
    want = case.z[f"state/{t}/valid"][e]
    np.testing.assert_allclose([scores["loss"], scores["accuracy"]], want, rtol=1e-5)
    schedule, params, memory = approach.schedule.update(
        state.schedule, scores["loss"], state.params, state.memory, step
    )
    state = state._replace(params=params, memory=memory, schedule=schedule)
    if e + 1 < case.meta["epochs"]:
        return state
    assert int(schedule.winner) == case.z[f"state/{t}/winner"] and schedule.done
    best, memory = approach.schedule.best(schedule, params, memory, step)
    np.testing.assert_array_equal(memory["paths"][t], case.z[f"state/{t}/bestPath"][t])
    jax.tree.map(np.testing.assert_array_equal, best, params)
    return state._replace(memory=memory)


def check_state(case: Case, t: int, params, memory, hyper) -> None:
    """What the approach remembers after task t."""
    if case.approach == "hat":
        gates = case.network.gates(params, t, hyper.approach.s_max)
        for layer in case.meta["gates"]:
            case.close(f"state/{t}/mask/{layer}", gates[layer])
            case.close(f"state/{t}/mask_pre/{layer}", memory["past"][layer])
        back = jax.tree.map(
            lambda p, names: jnp.broadcast_to(free(memory["past"], names, p.shape), p.shape),
            params["trunk"],
            case.network.axes["trunk"],
        )
        for name, got in case.to_torch({"trunk": back}).items():
            case.close(f"state/{t}/mask_back/{name}", got)


def check_fisher(case: Case, t: int, params, before, after) -> None:
    """The Fisher information of the trunk: of this task and as kept, and the merge that is lost.

    That of the heads is not kept: nothing trains a head after its own task.
    """
    if "fisher" not in after:
        return
    ewc = case.approach == "ewc"
    of_task = jax.tree.map(
        lambda new, old: (t + 1) * new - t * old if ewc else new - old,
        after["fisher"],
        before["fisher"],
    )
    compare = {"state/{}/fisher_task": of_task, "state/{}/fisher": after["fisher"]}
    if not ewc:
        old = before["old"]["trunk"]
        merged = approaches.imm_mode.merge(params["trunk"], of_task, old, before["fisher"])
        compare["merged/{}"] = jax.tree.map(  # the published merge sets what nobody minds to 0
            lambda m, f: jnp.where(f > 0, m, 0), merged, after["fisher"]
        )
    for prefix, tree in compare.items():
        for name, got in case.to_torch({"trunk": tree}).items():
            key = f"{prefix.format(t)}/{name}"
            if key in case.z:
                case.close(key, got)


def test_random():
    z = np.load(FOLDER / "random.npz")
    classes = json.loads(str(z["meta"]))["classes"]
    c = config.make("mnist2", "random")
    c.fidelity, c.batch, c.eval_batch = "code", 8, 8

    def split(y):
        return Split(np.zeros((len(y), 1, 1, 1), np.uint8), y)

    sequence = [
        Task(str(t), t, n, split(z[f"ytrain/{t}"]), split(z[f"ytest/{t}"]), split(z[f"ytest/{t}"]),
             np.zeros(1), np.ones(1))
        for t, n in enumerate(classes)
    ]  # fmt: skip
    approach = approaches.make(c, networks.make(c, (1, 1, 1), tuple(classes)))
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    params, memory = program.init(jax.random.key(0))
    for t in range(len(classes)):
        data = feed.put(sequence, t, "train", feed.capacity(sequence, "train", c.batch))
        turn = feed.turn(sequence, t)
        state = program.begin(params, memory, turn, jax.random.key(0), hyper)
        params, memory = program.end(state, data, turn, hyper)
        for u in range(t + 1):
            test = feed.put(sequence, u, "test", feed.capacity(sequence, "test", c.batch))
            scores = program.evaluate(params, memory, test, feed.turn(sequence, u), hyper)
            assert float(scores["loss"]) == 0
            np.testing.assert_allclose(scores["accuracy"], z[f"expected/{t}/{u}"], rtol=1e-5)


def test_the_cases_are_here():
    ours = {p.stem for p in (Path(__file__).parent / "golden").glob("*.npz")}
    assert {"hat-mlp2", "hat-mlp3", "hat-mlp2-clip", "hat-mlp2-ragged", "sgd-mlp", "random"} < ours
    assert {"ewc-mlp", "imm-mean-mlp", "imm-mode-mlp", "lwf-mlp-T2", "lfl-alexnet"} < ours
    assert {"progressive-alexnet", "pathnet-alexnet", "pathnet-alexnet-two"} < ours
    assert {"plateau", "tasks"} < ours  # another folder may be without them, ours not
    if FOLDER == Path(__file__).parent / "golden":  # and their cases are found
        assert len(SEEDS) == 5 and sum("/nvalid/" in key for key in TASKS) == 15
        assert sum("loss/" in key for key in PLATEAU) == 19


PLATEAU = dict(np.load(FOLDER / "plateau.npz")) if (FOLDER / "plateau.npz").exists() else {}


@pytest.mark.parametrize("k", [key.removeprefix("loss/") for key in PLATEAU if "loss/" in key])
def test_schedule(k):
    with jax.enable_x64():  # some of the improvements are below float32
        check_schedule(PLATEAU, k)


def check_schedule(z: dict[str, np.ndarray], k: str) -> None:
    lr, factor, patience, least = z[f"hyper/{k}"]
    state = plateau.start(lr, int(patience), jnp.int32(-1))  # the "parameters": the epoch
    update = jax.jit(plateau.update)
    rates = []
    for epoch, loss in enumerate(z[f"loss/{k}"]):
        if state.done:
            break
        rates.append(float(state.lr))
        state = update(state, jnp.asarray(loss), jnp.int32(epoch), factor, int(patience), least)
    np.testing.assert_allclose(rates, z[f"lr/{k}"], rtol=1e-5)
    assert int(state.params) == z[f"best/{k}"]
    assert bool(state.done) == bool(z[f"stopped/{k}"])


TASKS = dict(np.load(FOLDER / "tasks.npz")) if (FOLDER / "tasks.npz").exists() else {}
SEEDS = [int(seed) for seed in TASKS.get("seeds", ())]


@pytest.mark.parametrize("key", [key for key in TASKS if key in ("cifar/order", "mixture/order")])
def test_task_orders(key):
    for seed, expected in zip(SEEDS, TASKS[key], strict=True):
        np.testing.assert_array_equal(holdout.order(len(expected), seed), expected)


@pytest.mark.parametrize("key", [key for key in TASKS if "/nvalid/" in key])
def test_validation_images(key):
    """Which of n training images are held out, EXPERIMENT/nvalid/N of them, in their order."""
    experiment, _, n = key.split("/")
    c = config.make(experiment, "hat")
    c.fidelity = "code"
    places = np.arange(int(n), dtype=np.int32)
    alike = TASKS[key].ndim == 0  # one row for all seeds
    for k, seed in enumerate(SEEDS):
        c.seed = seed
        train, valid = holdout.hold_out(c, np.zeros((int(n), 1, 1, 1), np.uint8), places)
        at = () if alike else (k,)
        assert len(valid.y) == TASKS[key][at]
        for split, got in (("valid", valid), ("train", train)):
            if (expected := TASKS.get(f"{experiment}/{split}/{n}")) is not None:
                np.testing.assert_array_equal(got.y[: expected.shape[-1]], expected[at])


@pytest.mark.parametrize("k", range(len(TASKS.get("pmnist/seeds", ()))))
def test_pixel_permutations(k):
    count, size = TASKS["pmnist/perm"].shape[1:]
    c = config.make("pmnist", "hat")
    c.fidelity, c.tasks.count, c.seed = "code", count, int(TASKS["pmnist/seeds"][k])
    np.testing.assert_array_equal(tasks.permuted.permutations(c, size), TASKS["pmnist/perm"][k])
