"""hatjax.plot: figures from arrays and models, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import hatjax
from hatjax import plot
from hatjax.errors import InputError
from hatjax.report import style

ACC = np.tril(np.linspace(0.5, 0.9, 9).reshape(3, 3))


def lines(fig: Figure) -> list[np.ndarray]:
    return [line.get_ydata() for line in fig.axes[0].get_lines()]


def test_a_matrix():
    cells = {t.get_text() for t in plot.accuracy(ACC).axes[0].texts}
    assert cells == {f"{100 * v:.1f}" for v in ACC[np.tril_indices(3)]}


def test_forgetting_of_one_and_of_several_seeds():
    fig = plot.forgetting({"hat": ACC, "sgd": [ACC, ACC / 2]}, task=1)
    one, several = lines(fig)
    np.testing.assert_allclose(one, 100 * ACC[1:, 1])
    np.testing.assert_allclose(several, 75 * ACC[1:, 1])
    assert len(fig.axes[0].collections) == 1  # a band where there are several
    assert fig.axes[0].get_ylabel() == "accuracy on task 2 (%)"


def test_gates_and_overlap(trained_runs):
    model = hatjax.load(trained_runs["mlp"])
    panels = plot.gates(model).axes
    assert [ax.get_title() for ax in panels[:2]] == list(model.network.units)
    shown = panels[0].images[0].get_array()
    masks = [hatjax.task_masks(model, t)["fc1"] for t in range(3)]
    np.testing.assert_allclose(np.sort(shown, axis=1), np.sort(masks, axis=1), rtol=1e-6)
    shares = hatjax.overlap(model)
    assert [t.get_text() for t in plot.overlap(model).axes[0].texts] == [
        f"{100 * shares[i, j]:.0f}" for i, j in ((0, 1), (0, 2), (1, 2))
    ]


def test_capacity(trained_runs):
    from hatjax import report

    fig = plot.capacity(report.load(trained_runs["mlp"]).epochs)
    assert {line.get_label() for line in lines_of(fig)} >= {"fc1", "fc2"}


def lines_of(fig: Figure) -> list:
    return fig.axes[0].get_lines()


@pytest.mark.parametrize(
    "draw, says",
    [
        (lambda: plot.accuracy(np.zeros((2, 3))), r"shape \(2, 3\): expected a row and a column"),
        (lambda: plot.accuracy(np.zeros((0, 0))), "expected a row"),
        (lambda: plot.forgetting({"hat": ACC}, task=3), "task = 3: expected one from 0 to 2"),
        (lambda: plot.forgetting({}), "no runs: give"),
        (lambda: plot.forgetting({"hat": []}), "hat: no accuracies: give"),
        (lambda: plot.forgetting({"hat": np.float32(0.9)}), "hat: no accuracies: give"),
        (lambda: plot.forgetting({"a": [ACC, ACC[:2, :2]]}), r"a: seeds of \[2, 3\] tasks"),
        (lambda: plot.overlap(np.ones((1, 1))), "a single task: expected two or more"),
        (lambda: plot.capacity(pd.DataFrame({"task": [], "used_fc1": []})), "no epochs: give"),
    ],
)
def test_what_is_refused(draw, says):
    with pytest.raises(InputError, match=says):
        draw()


def test_a_figure_keeps_its_ticks_where_it_is_drawn():
    """Matplotlib chooses ticks at every drawing; others than the layout was made for do not fit."""
    fig = plot.forgetting({"hat": np.tril(np.full((10, 10), 0.961))})
    with style.context():
        fig.draw_without_rendering()
        mine = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    fig.draw_without_rendering()
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == mine
    assert fig.axes[0].yaxis.label.get_window_extent().x0 >= 0
