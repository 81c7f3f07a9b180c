"""What a report says and shows, of runs whose numbers are invented: names, intervals, figures."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hatjax import config
from hatjax.report import figures, gallery, groups, heat, missing, numbers, read, style, tables

TASKS = 4
C = config.make("digits", "hat").approach.c  # between 0.1 and 2.5


def record(approach: str, seed: int = 0, level: float = 0.9, **own: float) -> read.Record:
    """A finished run on the digits; `own` are fields of its approach."""
    c = config.make("digits", approach)
    c.seed, c.tasks.count = seed, TASKS
    for field, value in own.items():
        c.approach[field] = value
    rng = np.random.default_rng([seed, len(approach), *(int(100 * v) for v in own.values())])
    acc = np.tril(np.clip(level + 0.03 * rng.standard_normal((TASKS, TASKS)), 0, 1))
    where = Path("-".join([approach, str(seed), *map(str, own.values())]))
    return read.Record(where, c, tuple(map(str, range(TASKS))), acc, finished=True)


def grid(seeds: int, level: float = 0.9) -> list[read.Record]:
    return [
        record("hat", seed, level, s_max=s_max, c=c)
        for seed in range(seeds)
        for s_max in (25.0, 100.0, 400.0)
        for c in (0.1, C, 2.5)
    ]


def named(records: list[read.Record]) -> list[str]:
    (mine,) = groups.groups(records)[0].values()
    return list(dict.fromkeys(groups.names(mine)[r.label] for r in mine))


def test_a_name_has_what_varies_among_the_runs():
    assert named([record("hat"), record("sgd"), record("imm_mean")]) == ["HAT", "SGD", "IMM-mean"]
    # What all runs of an approach share is told once.
    records = [record("hat", c=0.1), record("hat", 1, c=0.1), record("sgd")]
    assert named(records) == ["HAT", "SGD"] and groups.shared(records) == "count=4; HAT: c=0.1"
    found, _ = groups.groups(records)
    text = tables.markdown(found, numbers.all_values(records))
    assert "In place of the defaults: count=4; HAT: c=0.1." in text and "\n| HAT | " in text
    # The defaults beside other settings have their values in the name, and nothing else has more.
    records = [record("hat", c=c, s_max=25.0) for c in (0.1, C, 2.5)]
    assert named(records) == ["HAT (c=0.1)", f"HAT (c={C:g})", "HAT (c=2.5)"]
    assert groups.shared(records) == "count=4; HAT: s_max=25"
    assert named([record("hat"), *grid(1)[:2], record("sgd")]) == [
        "HAT (c=0.1, s_max=25)", f"HAT (c={C:g}, s_max=25)", f"HAT (c={C:g}, s_max=400)", "SGD",
    ]  # fmt: skip


def test_the_same_names_in_tables_and_figures():
    records = [*grid(1)[:5], record("sgd"), record("random"), record("joint")]
    found, _ = groups.groups(records)
    (mine,) = found.values()
    names = set(groups.names(mine).values())
    values = numbers.all_values(mine)
    with style.context():
        drawn = list(gallery.all_figures(found, values, []))
    for picture, figure in drawn:
        told = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
        assert told <= names | {"fc1", "fc2"}, picture.name
    told = {picture.title.rpartition(",")[0] for picture, _ in drawn if picture.kind == "matrix"}
    assert told == names
    rows = tables.by_metric(values.named(groups.names(mine)))
    assert set(rows["approach"]) == names and "ρ" in rows.columns
    latex = tables.latex(rows, "x")
    assert r"$\rho$" in latex and "ρ" not in latex and "HAT (c=0.1, s\\_max=25)" in latex
    # The frames keep the names that --config takes.
    assert {"random", "hat (s_max=25)"} <= set(values.runs["approach"]) and "rho" in values.runs


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_intervals_stay_in_bounds(seeds):
    rng = np.random.default_rng(0)
    for low, high in ((0.9, 1), (0, 0.05), (1, 1)):
        values = rng.uniform(low, high, seeds)
        frame = pd.DataFrame({m: values for m in numbers.METRICS}).assign(of="a")
        row = numbers.spread(frame, ["of"]).iloc[0]
        for metric, m in numbers.METRICS.items():
            ends = row[f"{metric} low"], row[f"{metric} high"]
            if seeds < 3:
                assert np.isnan(ends).all(), metric
            else:
                assert m.bounds[0] <= ends[0] <= row[metric] + 1e-9, metric
                assert row[metric] - 1e-9 <= ends[1] <= m.bounds[1], metric
    assert np.isnan(row["rho std"]) == (seeds == 1)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_error_bars_are_intervals(seeds):
    records = [record("hat", seed, 0.98) for seed in range(seeds)]
    figure = figures.over_tasks(numbers.all_values(records).tasks, "average accuracy")
    (bars,) = figure.axes[0].containers
    assert bars.has_yerr == (seeds == 3)
    if bars.has_yerr:
        ends = np.concatenate([s for c in bars[2] for s in c.get_segments()])[:, 1]
        assert ends.max() <= 100 and np.ptp(ends) > 0
    lacks = list(missing.seeds("digits", records))
    commands = [c for lack in lacks for c in lack.commands]
    assert len(lacks) == (seeds < 3) and all(f"--config.seed={seeds}" in c for c in commands)
    assert all(("--config.seeds=2" in c) == (seeds == 1) for c in commands)


def test_lines_of_one_height_are_apart():
    names = list(config.APPROACHES)
    for count in (2, 13):
        records = [record(a, 0, 0.9) for a in names[:count]]
        for r in records:
            r.acc[:] = np.tril(np.full((TASKS, TASKS), 0.9))
        figure = figures.over_tasks(numbers.all_values(records).tasks, "average accuracy")
        lines = [c[0] for c in figure.axes[0].containers]
        starts = [line.get_xdata()[0] for line in lines]
        assert len(set(np.round(starts, 6))) == min(count, 5) and max(np.abs(starts)) < 1.3
        looks = {(x.get_color(), x.get_marker(), str(x.get_linestyle())) for x in lines}
        assert len(looks) == count
        (legend,) = figure.legends
        assert [t.get_text() for t in legend.get_texts()] == [
            config.APPROACHES[a].label for a in names[:count]
        ]


def test_the_settings_of_an_approach_look_different():
    names = ["HAT", "HAT (c=0.1)", "HAT (c=2)", "SGD", *(f"HAT (s_max={i})" for i in range(30))]
    looks = style.of_names(names)
    assert len({str(look) for look in looks.values()}) == len(names)
    assert looks["HAT"] == style.of("hat") and looks["SGD"] == style.of("sgd")
    blacks = [i for i in range(60) if style.numbered(i)["color"] == style.COLOURS[0]]
    assert blacks == [0]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_fig_4_shows_what_differs():
    tables_of = [grid(3), grid(1)]
    for records in tables_of:
        figure = figures.hyperparameters(numbers.all_values(records).runs)
        cells = texts(figure)
        means = sorted(float(cell.split("\n")[0]) for cell in cells)
        assert len(cells) == 9 and len(set(means)) > 5
        assert all(("±" in cell) == (len(records) > 9) for cell in cells)
        assert all(len(cell.split("\n")[0].replace(".", "")) == 3 for cell in cells)
        low, high = figure.axes[0].images[0].get_clim()
        assert low <= means[0] + 0.05 and means[-1] - 0.05 <= high
        assert (low + high) / 2 == pytest.approx((means[0] + means[-1]) / 2, abs=0.06)
    # Equal cells lie in the middle of a scale that is not empty.
    same = pd.DataFrame([[-0.03, -0.0301]], pd.Index([1.0], name="c"), [1.0, 2.0])
    figure = heat.settings(same, np.nan * same, "x", 0.005)
    low, high = figure.axes[0].images[0].get_clim()
    assert high - low == pytest.approx(0.01) and texts(figure) == ["-0.0300", "-0.0301"]
    # So do cells that differ less than the seeds do.
    figure = heat.settings(same, 0 * same + 0.02, "x", 0.005)
    low, high = figure.axes[0].images[0].get_clim()
    assert high - low == pytest.approx(0.04) and texts(figure)[0] == "-0.0300\n± 0.0200"


@pytest.mark.parametrize(
    "number, text",
    [(-0.03123, "-0.0312"), (0.5, "0.500"), (92.649, "92.6"), (100, "100"), (0, "0.0000"),
     (-1e-6, "0.0000"), (0.09996, "0.100"), (-0.99961, "-1.00"), (12345, "12345")],
)  # fmt: skip
def test_three_significant_digits(number, text):
    assert heat.significant(number) == text


def overlapping(figure) -> list[str]:
    """The texts of a figure that lie on another or reach over its edge."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    beyond = {  # the labels of ticks that are not in view
        label
        for axis in axes
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for ends in [sorted(axis.get_view_interval())]
        if not ends[0] <= tick.get_loc() <= ends[1]
        for label in (tick.label1, tick.label2)
    }
    drawn = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    there = [t for t in drawn if t not in beyond]
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in there]
    edge = figure.bbox
    found = []
    for i, (t, box) in enumerate(zip(there, boxes, strict=True)):
        outside = box.x0 < -1 or box.y0 < -1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
        on = any(
            min(box.x1, b.x1) - max(box.x0, b.x0) > 1 and min(box.y1, b.y1) - max(box.y0, b.y0) > 1
            for b in boxes[:i]
        )
        if outside or on:
            found.append(t.get_text())
    return found


def test_no_text_lies_on_another():
    many = [record(a, s) for a in config.APPROACHES for s in range(2)]
    long = [record("hat", 0, 0.9, c=c, s_max=123.456, e_max=5.5, cosh_max=c) for c in (1.23456, 2)]
    settings = [
        record("hat", 0, 0.9, s_max=float(s), c=c)
        for s in range(100, 1300, 100) for c in (0.1, 0.5, 1.0, 2.0)
    ]  # fmt: skip
    for records in (long + many[2:], grid(2), settings):
        found, _ = groups.groups(records)
        (mine,) = found.values()
        values = numbers.all_values(mine).named(groups.names(mine))
        with style.context():
            for picture, figure in gallery.of_group("digits", mine, values):
                if figure:
                    assert not overlapping(figure), picture.name


def test_a_large_grid_is_one_line_over_the_tasks():
    records = [record("hat", 0, 0.5 + 0.03 * c, c=float(c)) for c in range(1, 12)]
    some, (sentence,) = groups.shown(records)
    assert [r.config.approach.c for r in some] == [11]
    assert sentence == "Of 11 settings of HAT: the one with the best average accuracy."
    assert len(groups.shown(records[:9])[0]) == 9
    some, (sentence,) = groups.shown([*records, record("hat")])
    assert not some[0].variant and "the defaults alone" in sentence


def test_a_confusion_matrix():
    counts = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
    figure = heat.confusion([("mine: 85.0%", ("cat", "dog", "a very long name"), counts)] * 4)
    assert texts(figure) == ["80", "20", "10", "90"]
    with style.context():
        assert not overlapping(heat.confusion([("x", [str(i) for i in range(10)], np.eye(10))] * 3))
