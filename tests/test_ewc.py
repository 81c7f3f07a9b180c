"""EWC's lambda means about the same with either Fisher information (docs/departures.md)."""

import jax
import pytest

from hatjax import approaches, config, networks
from hatjax.approaches import ewc
from hatjax.data import feed, tasks
from hatjax.training import keys, train


@pytest.mark.slow
def test_lambda_means_about_the_same_in_both_fidelities():
    """The pull on the way of SGD in the second task, after a first one with dropout."""
    c = config.make("digits", "sgd")
    c.tasks.count, c.network.widths, c.network.dropout, c.batch = 2, (64, 64), 0.5, 32
    both = tasks.make(c)
    network = networks.make(c, (8, 8, 1), (10, 10))
    sgd, hyper, key = approaches.make(c, network), train.hyperparameters(c), keys.key(0)
    program = train.compile(c, sgd)
    params, memory = program.init(key)
    trunks = []
    for t, epochs in enumerate((8, 1)):
        data, turn = feed.put(both, t, "train", 2048), feed.turn(both, t)
        valid = feed.put(both, t, "valid", 500)
        state = program.begin(params, memory, turn, jax.random.fold_in(key, t), hyper)
        for _ in range(epochs):
            state, scores = program.epoch(state, data, valid, turn, hyper)
        params = jax.tree.map(lambda p: p.copy(), state.params)
        trunks.append(params["trunk"])
        if t == 0:
            assert scores["valid_accuracy"] > 0.85
            learned, step = params, train.evaluation_step(turn, hyper)._replace(key=key)
            first = data
    pulls = {}
    for fidelity in ("paper", "code"):
        c.fidelity = fidelity
        approach = approaches.make(config_of_ewc(c), network)
        _, new = jax.jit(approach.end_task)(learned, approach.init(key)[1], first, step)
        scale = 1 / ewc.STRONGER if fidelity == "paper" else 1
        pulls[fidelity] = scale * float(ewc.pull(trunks[1], trunks[0], new["fisher"]))
    assert 1 / 2 < pulls["paper"] / pulls["code"] < 2, pulls


def config_of_ewc(c):
    made = config.make("digits", "ewc")
    made.network, made.fidelity, made.batch = c.network, c.fidelity, c.batch
    return made
