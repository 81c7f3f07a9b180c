"""What devices change, and what they must not: a batch on several, the form of convolutions."""

import socket
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import config, networks
from hatjax.networks.layers import Conv, convolution
from hatjax.training import replicas
from tests.test_replicas import command, same

CONVOLUTIONAL = {
    "alexnet": (4, 4, 4, 8, 8),
    "convnet": (4, 4),
    "resnet18": (4, 4, 4, 4),
    "resnet34": (4, 4, 4, 4),
}


def run(tmp_path, name: str, *args: str, devices: int = 1) -> None:
    done = command(tmp_path, f"--workdir={name}", *args, devices=devices)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_batch_on_several_devices_is_the_batch_on_one(tmp_path):
    """Two groups of four devices, a run each."""
    run(tmp_path, "one", "--config.seeds=2")
    run(tmp_path, "eight", "--config.seeds=2", "--config.mesh.data=4", devices=8)
    for seed in range(2):
        same(tmp_path / "one" / f"seed{seed}", tmp_path / "eight" / f"seed{seed}")


@pytest.mark.slow
def test_a_batch_of_one_run_on_the_devices_of_two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    args = ["--config.mesh.data=4", "--config.data.examples=99", "--distributed"]
    args += [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    with ThreadPoolExecutor() as hosts:
        jobs = [
            hosts.submit(
                command, tmp_path, "--workdir=two", *args, f"--process={i}", devices=2
            )
            for i in range(2)
        ]  # fmt: skip
    assert [j.result().returncode for j in jobs] == [0, 0], jobs[0].result().stderr[-2000:]
    run(tmp_path, "one", "--config.data.examples=99")
    same(tmp_path / "two", tmp_path / "one")


def test_devices_that_cannot_be_shared_so():
    with pytest.raises(Exception, match="config.mesh.data = 3: the 1 devices here cannot be sha"):
        replicas.Placement(1, 3)


SLOW = ("resnet18", "resnet34")  # to compile; the layers themselves are tested below


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CONVOLUTIONAL]
)
def test_both_forms_of_convolutions_are_the_same_numbers(name):
    c = config.make("cifar", "hat", network=name)
    c.network.widths = CONVOLUTIONAL[name]
    x = jax.random.normal(jax.random.key(1), (3, 32, 32, 3))
    found, programs = [], []
    for form in ("patches", "native"):
        c.network.conv = form
        network = networks.make(c, (32, 32, 3), (5,))
        params = network.init(jax.random.key(0))

        def loss(params, network=network):
            return jnp.sum(network.apply(params, x, 0, jnp.float32(400)).features ** 2)

        found.append(jax.tree.leaves(jax.grad(loss)(params)))
        programs.append(str(jax.make_jaxpr(loss)(params)))
    assert "conv_general_dilated" in programs[1] and "conv_general_dilated" not in programs[0]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1e-3, float(jnp.max(jnp.abs(a)))))


@pytest.mark.parametrize("size, padding, stride", [(3, 1, 1), (3, 1, 2), (1, 0, 2), (4, 0, 1)])
def test_a_native_convolution_is_that_of_patches(size, padding, stride):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    a, b = (Conv(5, size, padding, stride, form=form) for form in ("patches", "native"))
    params = a.init(jax.random.key(1), x)
    np.testing.assert_allclose(a.apply(params, x), b.apply(params, x), rtol=1e-5, atol=1e-5)


def test_how_convolutions_are_computed():
    assert jax.default_backend() != "cpu" or convolution("auto", 1) == "patches"
    assert convolution("auto", 2) == "patches"
    assert convolution("native", 2) == "native"


def test_the_precision_of_products_is_a_field():
    c = config.make("digits", "hat")
    c.network.widths, c.precision = (4,), "float32"
    network = networks.make(c, (2, 2, 1), (3,))
    params = network.init(jax.random.key(0))

    def loss(params):
        return jnp.sum(network.apply(params, jnp.ones((2, 2, 2, 1)), 0, jnp.float32(1)).features)

    program = str(jax.make_jaxpr(jax.grad(loss))(params))
    products = program.count("= dot_general[")
    assert products > 1 and program.count("precision=(Precision.HIGHEST") == products
