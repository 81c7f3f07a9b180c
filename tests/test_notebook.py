"""What a Jupyter notebook is sent: one display that renews itself."""

import builtins
import re
import sys
import types

import numpy as np
import pytest

import hatjax
from hatjax.experiment import notebook

X, Y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
SETS = [(X, Y, X[:12], Y[:12])] * 2
TINY = dict(approach="sgd", epochs=3, network={"widths": (8,)})


@pytest.fixture
def sent(monkeypatch):
    """(what a display was made or renewed with, whether it is new), in a notebook of IPython's."""
    found = []

    class Handle:
        def update(self, data, raw):
            found.append((data["text/plain"], False))

    def display(data, raw, display_id):
        found.append((data["text/plain"], True))
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()  # by this name rich knows a notebook
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return found


def test_progress_is_one_display(sent, monkeypatch, capsys):
    monkeypatch.setattr(notebook, "SECONDS", -1)  # every epoch is shown
    hatjax.fit(SETS, **TINY)
    assert [new for _, new in sent] == [True] + [False] * (len(sent) - 1)
    texts = [re.sub("\n  warning: .*", "", text) for text, _ in sent]
    assert "task 1/2  epoch 1/3" in texts[0] and "task 1/2  epoch 3/3" in texts[2]
    assert all(len(text.splitlines()) <= 3 for text in texts)  # two tasks and an epoch
    first, second = texts[-1].splitlines()
    assert first.startswith("task 1/2 task 0: test") and second.startswith("task 2/2 task 1: test")
    assert capsys.readouterr().out == ""
    sent.clear()
    hatjax.fit(SETS, quiet=True, **TINY)
    assert not sent


def test_progress_is_renewed_slowly(sent, monkeypatch):
    monkeypatch.setattr(notebook, "SECONDS", 1e9)
    page = notebook.Page()
    page.renewed = -1e10
    for i in range(5):
        page.now(f"epoch {i}")
    page.print("a task")
    page.now("")
    assert [text for text, _ in sent] == ["epoch 0", "a task\nepoch 4", "a task"]


def test_many_tasks_are_one_row():
    html = notebook.table(np.full((41, 41), 0.5), ["a"] * 41)
    assert html.count("<tr>") == 2 and html.count("<td>50.0</td>") == 41
