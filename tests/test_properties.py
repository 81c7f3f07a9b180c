"""What each approach promises with fidelity "paper", most of it broken by the published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from hatjax import approaches, config, networks
from hatjax.approaches import lwf
from hatjax.data import feed
from hatjax.data.tasks import by_row
from hatjax.networks import rows
from hatjax.training import fisher, keys, tournament, train
from hatjax.training.losses import cross_entropy
from hatjax.types import Batch, Turn
from tests.test_contract import CLASSES, ROWS, feeds, setup

KEY = jax.random.key(0)


def at(c, t, key=None):
    """The step of the t-th task."""
    turn = jax.tree.map(jnp.int32, Turn(ROWS[t], t))
    return train.Step(*turn, jnp.float32(1), jnp.float32(0.1), key, train.hyperparameters(c))


def found(network, t):
    """Parameters as task t might have found them."""
    return network.init(jax.random.fold_in(KEY, t))


def close(got, want, rtol=1e-5, atol=1e-6):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def entropy_of(params, t):
    """The cross-entropy of task t as a function of the trunk, as fisher wants it."""
    c, _, _, sgd = setup("sgd")

    def entropy(trunk, batch, key):
        return sgd.loss(params | {"trunk": trunk}, {}, batch, at(c, t, key))[0]

    return entropy


@pytest.mark.parametrize("way", ["mlp", "alexnet", "one by one"])
def test_fisher_is_that_of_single_examples(way):
    c, tasks, network, sgd = setup("sgd")
    data = feeds(c, tasks, sgd)[1]
    if way == "alexnet":
        c.network = ConfigDict(dict(name="alexnet", widths=(3, 4, 5, 7, 6), dropout=(0.5,) * 5))
        network = networks.make(c, (14, 14, 3), network.classes)
        x = np.random.default_rng(0).integers(0, 256, (1, data.y.shape[1], 14, 14, 3), np.uint8)
        mean, std = jnp.full((3, 3), 99.0), jnp.full((3, 3), 50.0)
        data = data._replace(x=jnp.asarray(x), mean=mean, std=std)
    if way == "one by one":
        network = network._replace(squares=None)
    params = found(network, 0)

    def entropy(trunk, batch, key):
        out = network.apply(params | {"trunk": trunk}, batch.x, ROWS[1], key=key)
        return cross_entropy(out.logits, batch)

    got = fisher.per_example(network, params, data, ROWS[1])
    total = jax.tree.map(jnp.zeros_like, params["trunk"])
    gradient = jax.jit(jax.grad(entropy))
    for i in range(int(data.n)):
        one = feed.batch(data, None, i, 1)
        total = jax.tree.map(lambda f, g: f + g**2, total, gradient(params["trunk"], one, None))
    close(got, jax.tree.map(lambda f: f / data.n, total), rtol=1e-4, atol=1e-8)
    if way != "mlp":
        return
    batches = fisher.per_batch(entropy, params["trunk"], data, KEY)
    assert jnp.sum(batches["fc1"]["kernel"]) < jnp.sum(got["fc1"]["kernel"]) / 2


def test_ewc_pulls_with_lambda_f():
    c, tasks, network, ewc = setup("ewc")
    data = feeds(c, tasks, ewc)
    old, params = found(network, 0), found(network, 1)
    _, memory = ewc.end_task(old, ewc.init(KEY)[1], data[0], at(c, 0, KEY))
    batch = feed.batch(data[1], None, 0, 8)
    got = jax.grad(lambda p: ewc.loss(p, memory, batch, at(c, 1))[0])(params)["trunk"]
    plain = jax.grad(entropy_of(params, 1))(params["trunk"], batch, None)
    f = fisher.per_example(network, old, data[0], ROWS[0])
    want = jax.tree.map(
        lambda g, f, p, q: g + c.approach.lamb / 4 * f * (p - q),
        plain, f, params["trunk"], old["trunk"],
    )  # fmt: skip
    close(got, want, rtol=1e-4, atol=1e-5)


def test_ewc_averages_fisher_over_the_tasks():
    c, tasks, network, ewc = setup("ewc")
    memory, singles = ewc.init(KEY)[1], []
    for t, data in enumerate(feeds(c, tasks, ewc)):
        params = found(network, t)
        _, memory = ewc.end_task(params, memory, data, at(c, t, KEY))
        singles.append(fisher.per_example(network, params, data, ROWS[t]))
    close(memory["fisher"], jax.tree.map(lambda *f: sum(f) / 3, *singles))


def ends_of_imm_mode(fidelity):
    """Pairs of a merged trunk parameter after three tasks and what solves the least squares."""
    c, tasks, network, imm = setup("imm_mode", fidelity)
    memory, ps, fs = imm.init(KEY)[1], [], []
    for t, data in enumerate(feeds(c, tasks, imm)):
        params = found(network, t)
        ps.append(params["trunk"])
        fs.append(fisher.per_example(network, params, data, ROWS[t]))
        merged, memory = imm.end_task(params, memory, data, at(c, t, KEY))

    def solve(*leaves):  # argmin_p sum_k F_k (p - p_k)^2; where nobody minds, the last one's
        f, p = np.split(np.stack(leaves).astype(np.float64), 2)
        return np.where(f.sum(0) > 0, (f * p).sum(0) / np.maximum(f.sum(0), 1e-300), p[-1])

    want = jax.tree.map(solve, *fs, *ps)
    return list(zip(jax.tree.leaves(merged["trunk"]), jax.tree.leaves(want), strict=True))


def test_imm_mode_solves_the_weighted_least_squares_problem():
    for got, want in ends_of_imm_mode("paper"):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert any(np.max(np.abs(got - want)) > 0.01 for got, want in ends_of_imm_mode("code"))


def test_imm_mean_is_the_mean_of_all_tasks_and_leaves_heads_alone():
    for fidelity in ("paper", "code"):
        c, tasks, network, imm = setup("imm_mean", fidelity)
        memory, trunks = imm.init(KEY)[1], []
        for t, data in enumerate(feeds(c, tasks, imm)):
            params = found(network, t)
            trunks.append(params["trunk"])
            merged, memory = imm.end_task(params, memory, data, at(c, t, KEY))
        close(merged["trunk"], jax.tree.map(lambda *p: sum(p) / 3, *trunks))
        same = jax.tree.map(jnp.array_equal, merged["head"], params["head"])
        assert all(jax.tree.leaves(same)) == (fidelity == "paper")


@pytest.mark.parametrize("name", ["sgd", "sgd_frozen", "ewc", "imm_mean", "imm_mode", "lfl", "lwf"])
def test_a_head_that_is_never_trained_stays_untouched(name):
    c, tasks, _, approach = setup(name)
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    params, memory = program.init(KEY)
    start = params["head"]["kernel"][2]
    for t, data in enumerate(feeds(c, tasks, approach)[:2]):
        turn = feed.turn(tasks, t)
        state = program.begin(params, memory, turn, KEY, hyper)
        state, _ = program.epoch(state, data, data, turn, hyper)
        params, memory = program.end(state, data, turn, hyper)
    np.testing.assert_array_equal(params["head"]["kernel"][2], start)


def test_lfl_does_not_depend_on_the_size_of_the_batch():
    for fidelity in ("paper", "code"):
        c, tasks, network, lfl = setup("lfl", fidelity)
        c.batch = 16  # the published sum is one over such a batch
        _, memory = lfl.end_task(found(network, 0), {}, None, at(c, 0))
        batch = feed.batch(feeds(c, tasks, lfl)[1], None, 0, 8)
        twice = Batch(*(jnp.concatenate([v, v]) for v in batch))
        losses = [lfl.loss(found(network, 1), memory, b, at(c, 1))[0] for b in (batch, twice)]
        assert np.isclose(*losses, rtol=1e-5) == (fidelity == "paper")


def test_random_guesses_each_task_by_its_own_labels():
    c, tasks, _, approach = setup("random")
    params, memory = approach.init(KEY)
    for t, data in enumerate(feeds(c, tasks, approach)):
        params, memory = approach.end_task(params, memory, data, at(c, t))
    for task in tasks:
        shares = np.bincount(task.train.y, minlength=max(CLASSES)) / len(task.train.y)
        np.testing.assert_allclose(memory["frequencies"][task.row], shares, rtol=1e-6)


def test_sgd_frozen_keeps_the_trunk_of_the_first_task():
    c, tasks, network, approach = setup("sgd_frozen")
    params, batch = found(network, 0), feed.batch(feeds(c, tasks, approach)[1], None, 0, 8)
    for t in (0, 1):
        own = rows.take(params, ROWS[t])
        start = train.moments(approach, own, {}, at(c, t, KEY))
        new, *_ = train.train_step(approach, own, {}, start, batch, at(c, t, KEY))
        same = jax.tree.map(jnp.array_equal, new["trunk"], params["trunk"])
        assert all(jax.tree.leaves(same)) == (t == 1)
        assert not jnp.array_equal(new["head"]["kernel"], own["head"]["kernel"])


@pytest.mark.parametrize("fidelity", ["paper", "code"])
@pytest.mark.parametrize("name", ["sgd_restart", "joint", "pathnet"])
def test_tasks_restart_from_fresh_draws_and_the_published_from_the_first(name, fidelity):
    c, _, _, approach = setup(name, fidelity)
    first, memory = approach.init(keys.key(0))
    last = jax.tree.map(lambda p: p + 1, first)
    params, _ = approach.begin_task(last, memory, at(c, 1, keys.key(7)))
    for k, p in params["trunk"].items():
        assert np.array_equal(p["kernel"], first["trunk"][k]["kernel"]) == (fidelity == "code")
        assert not np.isclose(p["kernel"], last["trunk"][k]["kernel"]).any()


def test_joint_classifies_every_example_by_its_own_head():
    c, tasks, network, joint = setup("joint")
    data, params = feeds(c, tasks, joint)[2], found(network, 0)
    assert int(data.n) == sum(len(task.train.y) for task in tasks)
    batch = feed.batch(data, None, 0, int(data.n))
    loss, out = joint.loss(params, {}, batch, at(c, 2))
    for row in range(3):
        own = network.apply(params, batch.x, row).logits
        mine = np.asarray(batch.task) == row
        np.testing.assert_allclose(out.logits[mine], own[mine], rtol=1e-5, atol=1e-6)
    assert np.isfinite(loss)


def test_distillation_survives_a_temperature_and_confident_heads():
    logits = jnp.array([[200.0, -200.0, -jnp.inf], [1.0, 2.0, 3.0]])
    old = jnp.array([[0.0, 1.0, -jnp.inf], [1.0, 2.0, 3.0]])
    gradient = jax.grad(lambda x: jnp.sum(lwf.distillation(x, old, jnp.float32(2))))(logits)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_allclose(gradient[1], 0, atol=1e-5)  # where the heads agree


def columns(fidelity="paper"):
    """A progressive network of three tasks with three stages of 6 units a column, no training."""
    c, tasks, _, _ = setup("progressive", fidelity)
    c.network.widths, c.network.expand = (6, 6, 6), 3.0
    network = networks.make(c, (4, 4, 1), by_row(tasks, "classes"))
    approach = approaches.make(c, network)
    params, memory = approach.init(KEY)
    return c, tasks, network, approach, params, memory | {"old": params["trunk"]}


def passes_on(column, of: int):
    """A column whose last stage gives the second stage's output: of itself (-1) or column `of`."""
    layer, eye = {k: jax.tree.map(jnp.zeros_like, v) for k, v in column.items()}, jnp.eye(6)
    changed = {k: layer[k] for k in ("fc3", "U_fc3", "V_fc3")}
    if of < 0:
        changed["fc3"]["kernel"] = eye
    else:
        changed["U_fc3"]["kernel"] = eye
        changed["V_fc3"]["kernel"] = changed["V_fc3"]["kernel"].at[of].set(eye)
        changed["V_fc3"]["scale"] = changed["V_fc3"]["scale"].at[of].set(1.0)
    return column | changed


@pytest.mark.parametrize("fidelity", ["paper", "code"])
def test_an_old_column_is_the_same_alone_and_inside_the_wide_net(fidelity):
    c, tasks, network, approach, params, memory = columns(fidelity)
    x = feed.batch(feeds(c, tasks, approach)[2], None, 0, 8).x

    def second_stage(column, of, key=None):
        own = approach.take(params, memory, at(c, column))
        own["trunk"] = passes_on(own["trunk"], of)
        out = network.apply(
            own | {"old": memory["old"], "column": column}, x, ROWS[column], key=key
        )
        return out.features[:, :6]

    alone, inside = second_stage(1, -1), second_stage(2, 1)
    assert jnp.any(alone != 0)
    same = np.allclose(alone, inside, rtol=1e-5, atol=1e-6)
    assert same == (fidelity == "paper")  # the published code leaves out what column 1 reads


def test_old_columns_run_without_dropout_and_are_frozen():
    c, tasks, network, approach, params, memory = columns()
    c.network.dropout = 0.5
    network = networks.make(c, (4, 4, 1), by_row(tasks, "classes"))
    approach = approaches.make(c, network)
    batch = feed.batch(feeds(c, tasks, approach)[2], None, 0, 8)
    own = approach.take(params, memory, at(c, 2))
    # The head reads V_head of the columns before: without dropout, whatever the key.
    outs = [
        network.apply(
            own | {"old": memory["old"], "column": 2}, batch.x, ROWS[2], key=key
        ).features
        for key in (None, KEY)
    ]
    assert not np.array_equal(outs[0][:, :6], outs[1][:, :6])
    np.testing.assert_array_equal(outs[0][:, 6:], outs[1][:, 6:])
    start = train.moments(approach, own, memory, at(c, 2, KEY))
    new, *_ = train.train_step(approach, own, memory, start, batch, at(c, 2, KEY))
    after = approach.put(params, new, memory, at(c, 2))
    for before, later in zip(*map(jax.tree.leaves, (params["trunk"], after["trunk"])), strict=True):
        np.testing.assert_array_equal(before[:2], later[:2])
        assert jnp.any(before[2] != later[2])  # all that column 2 has is trained, "V_head" too


@pytest.mark.parametrize("name", ["progressive", "pathnet"])
def test_an_empty_past_is_sgd_on_the_network_of_the_first_task(name):
    c, tasks, network, approach = setup(name)
    if name == "pathnet":
        c.network.active, c.network.expand = 1, 1.0
    else:
        c.network.expand = 3.0
    network = networks.make(c, (4, 4, 1), by_row(tasks, "classes"))
    approach = approaches.make(c, network)
    plain, _, other, sgd = setup("sgd")
    batch, step = feed.batch(feeds(c, tasks, approach)[0], None, 0, 8), at(c, 0, None)
    params, memory = approach.init(KEY)
    own = approach.take(params, memory, step)
    layers = {"fc1", "fc2"}
    if name == "pathnet":
        trunk, head = jax.tree.map(lambda p: p[0], own["trunk"]), own["head"]
    else:
        trunk = {k: own["trunk"][k] for k in layers}
        head = own["head"] | {"kernel": own["head"]["kernel"][:, :6]}  # the rest reads nothing
    theirs = {"trunk": trunk, "norms": {}, "stats": {}, "gates": {}, "head": head}
    pairs = [(approach, own, memory, step), (sgd, theirs, {}, at(plain, 0, None))]
    news, losses = [], []
    for method, mine, past, when in pairs:
        start = train.moments(method, mine, past, when)
        out = train.train_step(method, mine, past, start, batch, when)
        news.append(out[0])
        losses.append(out[2])
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for k in layers:
        for kind in ("kernel", "bias"):
            got = news[0]["trunk"][k][kind]
            got = got[0] if name == "pathnet" else got
            np.testing.assert_allclose(got, news[1]["trunk"][k][kind], rtol=1e-5, atol=1e-7)


def test_mutations_move_a_little_and_never_name_a_module_twice():
    path = tournament.random_path(KEY, 5, 16, 3)
    children = jax.vmap(lambda k: tournament.mutate(k, path, 16))(jax.random.split(KEY, 2000))
    for one in np.asarray(children).reshape(-1, 3):
        assert len(set(one)) == 3
    away = (np.asarray(children) - np.asarray(path) + 8) % 16 - 8
    assert set(np.unique(away)) == {-2, -1, 0, 1, 2}
    assert np.mean(away != 0) == pytest.approx(1 / 15 * 4 / 5, rel=0.15)  # 0 is a move, too


def test_each_of_two_rivals_has_the_epochs_of_the_other_approaches():
    c = config.make("cifar", "pathnet")
    assert c.approach.rivals == 2 and c.epochs == 2 * config.make("cifar", "sgd").epochs
    assert tournament.epochs_a_turn(c) == 200 // c.approach.generations


def test_the_tournament_in_plain_python():
    """Every epoch of a task against the rule written with lists and ifs."""
    c, tasks, network, approach = setup("pathnet")
    c.epochs, c.approach.generations, c.approach.rivals, c.lr_patience = 36, 4, 3, 2
    c.lr, c.lr_min = 0.05, 0.002
    approach = approaches.make(c, network)
    step = at(c, 0, KEY)._replace(hyper=train.hyperparameters(c))
    params, memory = approach.init(KEY)
    update = jax.jit(approach.schedule.update)
    rng = np.random.default_rng(0)
    for trial in range(4):
        state, now = approach.schedule.start(params, memory, step)
        rates, best, patience = [0.05] * 3, [np.inf] * 3, [2] * 3
        turn = epoch = generation = winner = 0
        least, kept, done, count = np.inf, None, False, 0
        while not done:
            np.testing.assert_array_equal(now["paths"][ROWS[0]], state.rivals[turn])
            assert float(state.lr) == pytest.approx(rates[turn]) and int(state.turn) == turn
            count += 1
            loss = float(np.float32(rng.uniform(0, 10 if trial else 1)))
            if trial == 3:
                loss = float(np.float32(2 + 0.1 * count))  # never better: rates fall
            if loss < least:
                least, winner, kept = loss, turn, count
            if loss < best[turn]:
                best[turn], patience[turn] = loss, 2
            else:
                patience[turn] -= 1
                if patience[turn] == 0:
                    rates[turn], patience[turn] = rates[turn] / 3, 2
            epoch += 1
            path, ended = np.asarray(state.rivals), False
            if epoch == 3 or rates[turn] < 0.002:
                epoch, after = 0, [r for r in range(turn + 1, 3) if rates[r] >= 0.002]
                if after:
                    turn = after[0]
                else:
                    ended, generation = True, generation + 1
                    for r in {0, 1, 2} - {winner}:
                        rates[r], best[r], patience[r] = rates[winner], np.inf, 2
                    alive = [r for r in range(3) if rates[r] >= 0.002]
                    done = generation == 4 or not alive
                    turn = alive[0] if alive else 0
            marked = jax.tree.map(lambda p, n=count: jnp.full_like(p, n), params)
            key = jax.random.fold_in(KEY, count)
            state, after_epoch, now = update(state, loss, marked, now, step._replace(key=key))
            assert bool(state.done) == done and int(state.winner) == winner
            assert float(after_epoch["trunk"]["fc1"]["bias"][0, 0]) == (kept if ended else count)
            np.testing.assert_array_equal(state.rivals[winner], path[winner])
        chosen, last = approach.schedule.best(state, marked, now, step)
        assert float(chosen["trunk"]["fc1"]["bias"][0, 0]) == kept
        np.testing.assert_array_equal(last["paths"][ROWS[0]], state.rivals[winner])
        assert trial != 3 or count < 36


def test_modules_of_earlier_paths_are_frozen_and_the_others_start_anew():
    c, tasks, _, approach = setup("pathnet")
    c.epochs = 4
    program, hyper = train.compile(c, approach), train.hyperparameters(c)
    params, memory = program.init(KEY)
    for t, data in enumerate(feeds(c, tasks, approach)):
        before, held = params["trunk"], np.asarray(memory["held"]) > 0
        turn = feed.turn(tasks, t)
        state = program.begin(params, memory, turn, jax.random.fold_in(KEY, t), hyper)
        for layer, h in zip(sorted(before), held, strict=True):
            anew = np.any(state.params["trunk"][layer]["bias"] != before[layer]["bias"], axis=1)
            np.testing.assert_array_equal(anew, ~h)
        for _ in range(c.epochs):
            state, _ = program.epoch(state, data, data, turn, hyper)
        params, memory = program.end(state, data, turn, hyper)
        for layer, h in zip(sorted(before), held, strict=True):
            np.testing.assert_array_equal(
                np.asarray(params["trunk"][layer]["kernel"])[h], before[layer]["kernel"][h]
            )
        path = np.asarray(memory["paths"][ROWS[t]])
        assert all(memory["held"][i][path[i]].all() for i in range(len(path)))
        assert t == 0 or held.any()
