"""Tiny trained runs of HAT, and their models with other gates."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from hatjax import config, data
from hatjax.analysis import models
from hatjax.data import Raw, npz
from hatjax.experiment import run

GATES = ("trained", "binary", "soft")


def make(folder: Path) -> dict[str, Path]:
    """Three permutations of the digits on an MLP, and images in three tasks on a tiny AlexNet.

    Their 24 pixels leave 2x2 of each last filter, so that the flatten repeats its gate.
    """
    mlp = config.make("digits", "hat")
    mlp.tasks.count, mlp.epochs, mlp.network.widths, mlp.approach.c = 3, 10, (24, 20), 0.05
    rng = np.random.default_rng(0)
    y = np.arange(90) % 6
    x = rng.integers(0, 100, (90, 24, 24, 3), np.uint8) + (25 * y).astype(np.uint8)[
        :, None, None, None
    ]
    npz.write(folder / "mine.npz", Raw(x, y, x[:18], y[:18]))
    alexnet = config.make("cifar", "hat")
    alexnet.data.sets, alexnet.data.root, alexnet.tasks.count = ("mine",), str(folder), 3
    alexnet.network.widths, alexnet.epochs, alexnet.batch = (6, 7, 8, 16, 14), 3, 8
    alexnet.approach.c = 0.05
    for name, c in {"mlp": mlp, "alexnet": alexnet}.items():
        c.approach.gate_init = "normal"  # so that some units are closed after so few epochs
        run.run(c, folder / name)
    return {"mlp": folder / "mlp", "alexnet": folder / "alexnet"}


def model(where: Path, gates: str) -> models.Model:
    """The model as it is, or with gates of exactly 0 and 1, or soft ones (s_max 3)."""
    m = models.load(where)
    m = m._replace(params=jax.tree.map(jnp.asarray, m.params))
    c = ConfigDict(m.config.to_dict())
    if gates == "soft":
        c.approach.s_max = 3.0
    if gates == "binary":
        e = jax.tree.map(lambda e: 6 * jnp.sign(e), m.params["gates"])
        m = m._replace(params=m.params | {"gates": e})
    return m._replace(config=c)


def images(name: str, folder: Path) -> np.ndarray:
    """The raw test images of a run of `make`."""
    return data.load("digits" if name == "mlp" else "mine", folder).x_test[:40]


def command(module: str, *args: object) -> tuple[int, str, str]:
    """Run `python -m hatjax.MODULE ARGS`: exit status, out, err."""
    done = subprocess.run(
        [sys.executable, "-m", f"hatjax.{module}", *map(str, args)],
        env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
