"""Masks of tasks and what they share, on a model whose gates are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hatjax import approaches, config, networks
from hatjax.analysis import masks, models
from hatjax.errors import InputError


def model(approach: str, e: list[list[float]] | None = None) -> models.Model:
    """An untrained 2 x 2 MLP on 1x1 images for two tasks, with the embeddings `e` in both layers.

    Its tasks are learned in the order 1, 0 of their rows.
    """
    c = config.make("digits", approach)
    c.network.widths = (2, 2)
    network = networks.make(c, (1, 1, 1), (2, 2))
    method = approaches.make(c, network)
    params, memory = method.init(jax.random.key(0))
    if e is not None:
        params["gates"] = {layer: jnp.array(e) for layer in network.units}
    ones = np.ones((2, 1))
    return models.Model(
        c, ("b", "a"), (1, 0), network, method, params, memory, ones, ones, None, (1, 1, 1),
        (True, True),
    )  # fmt: skip


def test_masks_are_the_gates_of_the_task_as_learned():
    m = model("hat", [[1, 1], [1, -1]])
    np.testing.assert_array_equal(masks.masks(m, 0)["fc1"], [1, 0])
    np.testing.assert_array_equal(masks.masks(m, 1)["fc2"], [1, 1])


def test_overlap_counts_weights():
    # Task 0 has one unit a layer: 1 of 2 weights and 1 of 2 biases in fc1, 1 of 4 and 1 of 2 in
    # fc2
    # (all of which task 1 uses, and the other six).
    shares = masks.overlap(model("hat", [[1, 1], [1, -1]]))
    np.testing.assert_allclose(shares, [[1, 1], [4 / 10, 1]])
    np.testing.assert_allclose(masks.overlap(model("hat", [[1, 1], [-1, -1]])), [[0, 0], [0, 1]])


def test_refusals():
    with pytest.raises(InputError, match="'sgd' has no gates"):
        masks.masks(model("sgd"), 0)
    with pytest.raises(InputError, match=r"task 2: the model has the tasks 0\.\.1"):
        masks.masks(model("hat"), 2)
