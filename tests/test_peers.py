"""The benchmark's peers in PyTorch train the networks that we do."""

import sys

import jax
import numpy as np
import pytest
import torch

from hatjax import networks
from hatjax.benchmark import libraries, measures, peer, steps, suite
from hatjax.benchmark.torch_networks import Net
from hatjax.errors import InputError

CASES = suite.TINY


def copied(theirs: Net, params: dict, name: str) -> None:
    """Copy our trunk, head and gates into the peer's."""
    with torch.no_grad():
        for layer, module in theirs.trunk.layers.items():
            ours = jax.tree.map(np.asarray, params["trunk"][layer])
            shape, w = module.weight.shape, ours["kernel"]
            if module.weight.dim() == 4:  # "k k i o", of patches "kki o"
                w = w.reshape(*shape[2:], shape[1], shape[0]).transpose(3, 2, 0, 1)
            elif name == "alexnet" and layer == "fc1":  # from "h w c" to "c h w"
                channels = params["trunk"]["c3"]["bias"].size
                w = w.reshape(-1, channels, shape[0]).transpose(2, 1, 0).reshape(shape)
            else:
                w = w.T
            module.weight.copy_(torch.tensor(w.copy()))
            if module.bias is not None:
                module.bias.copy_(torch.tensor(ours["bias"]))
        if name == "vit":
            theirs.trunk.position.copy_(torch.tensor(np.asarray(params["trunk"]["position"])))
        for t, head in enumerate(theirs.heads):
            head.weight.copy_(torch.tensor(np.asarray(params["head"]["kernel"][t]).T.copy()))
            head.bias.copy_(torch.tensor(np.asarray(params["head"]["bias"][t])))
        for gate, e in theirs.e.items():
            e.copy_(torch.tensor(np.asarray(params["gates"][gate])))


@pytest.mark.parametrize("name", CASES)
def test_the_same_network(name):
    """The same number of parameters, and with the same numbers the same logits."""
    network = steps.build(CASES[name], "hat").network
    params = jax.jit(network.init)(jax.random.key(0))
    theirs = Net(CASES[name], hat=True).eval()
    assert sum(p.numel() for p in theirs.parameters()) == sum(networks.count(network).values())
    copied(theirs, params, name)
    x, s = np.random.default_rng(0).normal(size=(3, *steps.IMAGE[name])).astype(np.float32), 2.0
    with torch.no_grad():
        logits, _ = theirs(torch.tensor(x.transpose(0, 3, 1, 2).copy()), 1, torch.tensor(s))
    ours = jax.jit(network.apply)(params, x, 1, np.float32(s)).logits
    np.testing.assert_allclose(logits, ours, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_what_the_past_holds_is_free_of_nothing(name):
    """Every shared parameter is in the mask; it is 0 where earlier tasks hold all units."""
    net = Net(CASES[name], hat=True)
    free = net.free({gate: torch.ones(n) for gate, n in net.units.items()})
    assert {id(p) for p, _ in free} == {
        id(p) for k, p in net.trunk.named_parameters() if not k.startswith("norms")
    }
    assert all(mask.shape == p.shape and not mask.any() for p, mask in free)


@pytest.mark.parametrize("hat", [True, False])
def test_a_peer_trains(hat):
    trained = peer.prepare(CASES["mlp"], hat, 3)
    trained.steps(3)
    trained.epoch()


def test_a_peer_that_fails_is_told(monkeypatch):
    def failing(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(peer, "prepare", failing)
    made, failed = measures.peers(CASES["mlp"], measures.How(2, 1, ("compile",)), ["hat"])
    assert not made and failed == {"compile hat": "no compiler"}


def test_a_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(measures, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="PyTorch is not installed"):
        measures.check_peers(["torch"])


def test_a_gpu_that_only_jax_sees(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="JAX computes on a gpu, and PyTorch .* sees none"):
            peer.device()


@pytest.mark.parametrize("name", libraries.INSTALL)
def test_a_library_that_is_not_there_is_named(name, monkeypatch):
    """With what installs it. (None in sys.modules makes an import fail.)"""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"{name} cannot be imported.*pip install"):
        libraries.needs(name)


@pytest.mark.parametrize("words", [["100"], ["100", "x"], ["100", "0"], []])
def test_widths_that_are_none(words):
    with pytest.raises(InputError, match="--widths: expected two or more"):
        libraries.widths_of(words)


def test_our_step_beside_other_libraries():
    run = libraries.ours([8, 8], 3)
    assert 0 < run(3) < 60
