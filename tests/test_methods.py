"""docs/methods.md has rows for every method; its bytes are those of the code, its accuracies those
of docs/results."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from hatjax import config
from hatjax.analysis import remembered
from hatjax.benchmark import methods

DOCUMENT = Path(__file__).parents[1] / "docs" / "methods.md"
MEASURED = ("step / SGD's",)


@pytest.mark.parametrize("half", [0, 1])
def test_the_tables_of_the_document_are_those_of_the_code(half):
    lines = [x for x in DOCUMENT.read_text().splitlines() if x.startswith("| ")]
    there = [[cell.strip() for cell in x.strip("|").split("|")] for x in lines]
    head, *want = methods.halves(methods.rows(rounds=0))[half]
    start = there.index(head)
    got = there[start + 2 : start + 2 + len(want)]
    kept = [i for i, name in enumerate(head) if name not in MEASURED]
    for have, should in zip(got, want, strict=True):
        assert len(have) == len(head)
        assert [have[i] for i in kept] == [should[i] for i in kept], (
            f"docs/methods.md, {should[0]}: its row is made by python -m hatjax.benchmark.methods"
        )


def test_every_method_of_the_registry_has_its_facts():
    assert set(config.APPROACHES.ours) <= set(methods.METHODS)


def test_bytes_by_hand():
    """ER on the MLP of 2 x 2000: 200 images of 28 x 28 floats, labels, rows, count, filling."""
    memory, more_memory, more_params = methods.bytes_of("er")
    assert memory == 200 * (28 * 28 + 2) * 4 + 4 + 4
    assert more_memory == 0 and more_params == 4 * (2000 + 1) * 10  # a head
    trunk = 784 * 2000 + 2000 + 2000 * 2000 + 2000
    assert methods.bytes_of("si") == (3 * 4 * trunk, 0, more_params)
    assert remembered.size({"a": jnp.zeros((2, 3), jnp.int8), "b": jnp.float32(1)}) == 10
    shapes = jax.eval_shape(lambda: {"a": jnp.zeros((2, 3))})
    assert remembered.size(shapes) == 24


def test_costs_are_ratios_to_sgd(monkeypatch):
    monkeypatch.setattr(methods, "CASE", methods.CASE._replace(widths=(8, 8), batch=4))
    monkeypatch.setattr(methods, "STEPS", 2)
    found = methods.costs(["si"], 2)
    assert set(found) == {"si"} and 0 < found["si"]["least"] <= found["si"]["most"]
