"""The notebooks in examples/ run from top to bottom, and show their figures."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
FIGURES = {"tour": 5, "own_loop": 0, "seeds": 2}


def test_all_are_here():
    assert {p.stem for p in EXAMPLES.glob("*.ipynb")} == FIGURES.keys()


@pytest.mark.filterwarnings("ignore")  # of the kernel's libraries
@pytest.mark.parametrize("name", FIGURES)
def test_it_runs(name):
    book = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    assert not any(cell.get("outputs") for cell in book.cells)  # kept without them
    NotebookClient(book, timeout=300, resources={"metadata": {"path": EXAMPLES}}).execute()
    outputs = [o for cell in book.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == FIGURES[name]
