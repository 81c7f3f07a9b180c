"""The report over tiny real runs: numbers, tables, figures, the page, and what is missing."""

import csv
import dataclasses
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from hatjax import config, forget, plans
from hatjax.analysis import metrics, models
from hatjax.data import Raw, npz
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.report import (
    figures,
    gallery,
    groups,
    load,
    missing,
    names,
    numbers,
    read,
    settings,
    tables,
    thin,
    write,
)  # fmt: skip
from hatjax.workdir import files

APPROACHES = ("hat", "random", "joint", "sgd_restart", "sgd")


def digits(approach: str):
    c = config.make("digits", approach)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 3, 2, (12, 12), 150
    return c


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Five approaches with two seeds, a grid, a task alone, and what else may lie about."""
    folder = tmp_path_factory.mktemp("report")
    for approach in APPROACHES:
        c = digits(approach)
        c.seeds = 2
        run.run_sweep(folder / approach, plans.replicas(c), quiet=True)
    c = digits("hat")
    c.grid = "approach.s_max=50,400 approach.c=0.1,2"
    run.run_sweep(folder / "grid", plans.replicas(c), quiet=True)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 12, 12, 3), np.uint8), np.arange(60) % 3
    npz.write(folder / "mine.npz", Raw(x, y, x[:9], y[:9]))
    c = config.make("compression", "hat")
    c.data.sets, c.data.root, c.data.image = ("mine",), str(folder), ()
    c.network.widths, c.epochs, c.batch = (4, 4, 4, 8, 8), 3, 16
    run.run_sweep(folder / "alone", {"": c}, quiet=True)
    # One that runs still: its last task is not learned, and a line is being written.
    running = folder / "running" / "seed7"
    shutil.copytree(folder / "hat" / "seed0", running)
    text = (running / "config.json").read_text()
    (running / "config.json").write_text(text.replace('"seed": 0', '"seed": 7'))
    (running / "done").unlink()
    acc = np.load(running / "accuracy.npy")
    acc[2] = 0
    np.save(running / "accuracy.npy", acc)
    with open(running / "metrics.jsonl", "a") as file:
        file.write('{"task": 2, "epo')
    return folder


@pytest.fixture(scope="module")
def report(runs):
    """The report of all runs, its tables, notes and what is missing."""
    records, notes = read.read_all([runs])
    return runs / "out", *write.write(records, runs / "out", notes)


def test_metrics():
    acc = np.array([[0.9, 0, 0], [0.7, 0.8, 0], [0.6, 0.9, 0.5]])
    other = np.diag([0.8, 0.7, 0.6])
    assert metrics.forward_transfer(acc, other) == pytest.approx((0.1 - 0.1) / 2)
    assert metrics.intransigence(acc, other) == pytest.approx((-0.1 - 0.1 + 0.1) / 3)
    after = metrics.after_every_task(metrics.backward_transfer, acc)
    np.testing.assert_allclose(after, [0, -0.2, (-0.3 + 0.1) / 2])


def test_numbers_and_tables(report, runs):
    out, text, *_ = report
    accs = {
        a: [np.load(runs / a / f"seed{s}" / "accuracy.npy") for s in range(2)] for a in APPROACHES
    }
    mean, std = metrics.over_seeds([100 * metrics.average_accuracy(a) for a in accs["sgd"]])
    row = next(line for line in text.splitlines() if line.startswith("| SGD |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == f"{mean:.1f} ± {std:.1f}" and cells[-1] == "2"
    rho = metrics.over_seeds(
        [
            metrics.forgetting_ratio(a, r, j)[-1]
            for a, r, j in zip(accs["sgd"], accs["random"], accs["joint"], strict=True)
        ]
    )[0]
    with open(out / "over_seeds.csv", newline="") as file:
        found = list(csv.DictReader(file))
    (mine,) = [r for r in found if r["approach"] == "sgd" and r["tasks learned"] == "3"]
    assert float(mine["rho"]) == pytest.approx(rho) and mine["seeds"] == "2"
    assert mine["rho low"] == mine["rho high"] == ""  # two seeds have no interval
    with open(out / "after_every_task.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["approach"] for r in rows} >= set(APPROACHES)
    latex = (out / "tables" / "digits.tex").read_text()
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") - line.count(r"\&") for line in body}) == 1
    assert r"\toprule" in latex and "SGD-R" in latex


def size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_figures(report):
    out = report[0]
    names = {p.stem for p in (out / "figures").glob("*.png")}
    for kind in ("fig3", "fig4", "fig5", "fig6", "fig7", "matrix", "accuracy"):
        mine = [n for n in names if n.startswith(kind)]
        assert mine, (kind, names)
        for name in mine:
            assert (out / "figures" / f"{name}.pdf").read_bytes()[:5] == b"%PDF-"
            assert min(size(out / "figures" / f"{name}.png")) > 250


def test_axes_have_titles_and_something_on_them(runs):
    found, _ = groups.groups(read.read_all([runs / "hat", runs / "random", runs / "joint"])[0])
    every = list(gallery.all_figures(found, numbers.all_values(found["digits"]), []))
    assert {"fig3", "fig5", "fig6", "matrix", "accuracy"} <= {picture.kind for picture, _ in every}
    for picture, figure in every:
        ax = figure.axes[0]
        assert ax.get_xlabel() and ax.get_ylabel() and picture.caption, picture.name
        assert ax.images or any(len(line.get_xdata()) > 1 for line in ax.lines), picture.name


class Page(HTMLParser):
    """Which tags are open, what the page links to, and its text."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self):
        super().__init__()
        self.open, self.links, self.alts, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [v for k, v in attrs.items() if k in ("src", "href")]
        self.alts += [attrs.get("alt")] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page(report):
    out, *_, lacks = report
    page = Page()
    page.feed((out / "index.html").read_text())
    assert not page.open and page.alts and all(page.alts)
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert "Confusion" not in page.text and not (out / "confusion.csv").exists()  # on request
    assert "2 of 3 tasks" in page.text and "What is missing" in page.text
    for lack in lacks:
        assert all(command in page.text for command in lack.commands)
    assert any("ewc" in command for lack in lacks for command in lack.commands)
    # Two seeds have all that they are compared with; the one that runs still has not.
    for lack in lacks:
        for line in lack.commands:
            assert "baseline.py:random" not in line or "--config.seed=7" in line


def test_what_is_missing_is_named_with_its_command(runs, tmp_path):
    records, _ = read.read_all([runs / "hat", runs / "sgd"])
    _, _, lacks = write.write(records, tmp_path / "out")
    commands = [command for lack in lacks for command in lack.commands]
    made = [c for c in commands if "baseline.py:joint,digits" in c]
    assert made and "--config.epochs=2" in made[0] and "--config.seeds=2" in made[0]
    assert any("rho" in lack.what for lack in lacks) and any("Fig. 4" in k.what for k in lacks)


def test_runs_that_extend_others_are_given_no_command(runs, tmp_path):
    """A single command cannot train their like, since each begins with a run of its own."""
    records, _ = read.read_all([runs / "hat"])
    for record in records:
        record.config.extends.update(run="first", tasks=(2,))
    _, _, lacks = write.write(records, tmp_path / "out")
    assert any("no runs of random" in lack.what for lack in lacks)
    assert not [c for lack in lacks for c in lack.commands if "extends" in c or "baseline.py" in c]


def test_a_reference_is_of_the_same_tasks(runs):
    records, _ = read.read_all([runs])
    (hat,) = [r for r in records if r.where.parts[-2:] == ("hat", "seed1")]
    joint = groups.reference(hat, "joint", records)
    assert joint.config.seed == 1 and joint.approach == "joint"
    other = dataclasses.replace(hat, names=("another",) * 3)
    assert groups.reference(other, "joint", records) is None


def test_a_forgotten_task_does_not_count(runs, tmp_path):
    source = runs / "hat" / "seed0"
    model = models.load(source)
    (tmp_path / "less").mkdir()
    key = jax.random.key(0)
    forget.save(source, tmp_path / "less", forget.forget_task(model, 1, key), 1)
    records, notes = read.read_all([tmp_path])
    text, *_ = write.write(records, tmp_path / "out", notes)
    row = next(line for line in text.splitlines() if line.startswith("| HAT |"))
    expected = np.load(source / "accuracy.npy")[2, [0, 2]].mean()
    assert f"| {100 * expected:.1f} |" in row and not notes


def test_a_copy_that_has_forgotten_a_task_is_a_run_of_its_own(runs):
    records, _ = read.read_all([runs / "hat"])
    gone = records[0].acc.copy()
    gone[1:, 1] = np.nan
    copy = dataclasses.replace(records[0], where=Path("copy"), acc=gone)
    assert copy.label == "hat (forgotten=2)"
    found, twice = groups.groups([copy, *records])
    assert not twice and sorted(groups.names(*found.values()).values()) == [
        "HAT", "HAT (forgotten=2)"
    ]  # fmt: skip


def given(record: read.Record, tests: tuple[str, ...], where: str) -> read.Record:
    """The record as of a run on arrays whose test examples have these fingerprints."""
    c = config.of_arrays(len(record.names), record.approach)
    return dataclasses.replace(record, config=c, tests=tests, where=Path(where))


def test_runs_on_different_arrays_are_not_compared(runs):
    records, _ = read.read_all([runs / "hat"])
    (hat,) = [r for r in records if r.seed == 0]
    iris, wine = given(hat, ("1",) * 3, "iris"), given(hat, ("2",) * 3, "wine")
    assert iris.label == "hat" and iris.setting.keys() == {"data.arrays"}  # all else is as usual
    found, twice = groups.groups([iris, wine])
    assert len(found) == 2 and not twice
    assert all(re.fullmatch(r"arrays \(arrays=[0-9a-f]{6}\)", name) for name in found)
    assert groups.reference(iris, "hat", [wine]) is None
    lacks = missing.missing(found, numbers.all_values([iris, wine]), ())
    assert not [c for lack in lacks if "arrays" in lack.what for c in lack.commands]
    assert not [lack.what for lack in lacks if lack.what.endswith("for example")]
    older = given(hat, (), "older")  # which did not write fingerprints
    assert older.setting == {}
    # Of tasks added to a run on permuted images, whose order the seed draws, only the arrays count.
    first, second = (given(hat, (str(seed), "iris", "wine"), "w") for seed in (0, 1))
    for r in (first, second):
        r.config.extends.update(run="some", tasks=(1,))
    assert first.setting["data.arrays"] == second.setting["data.arrays"]
    own = dataclasses.replace(first, earlier=(hat.config,)).setting["data.arrays"]
    both = dataclasses.replace(first, earlier=(first.config,)).setting["data.arrays"]
    assert own == first.setting["data.arrays"] != both


def test_runs_that_extend_different_runs_are_not_compared(runs):
    records, _ = read.read_all([runs / "hat"])
    (hat,) = [r for r in records if r.seed == 0]
    short, other = (config.from_json(config.to_json(hat.config)) for _ in range(2))
    short.epochs, other.approach.c = 1, 0.1
    same, after_short, after_other = (
        dataclasses.replace(hat, earlier=(c,)) for c in (hat.config, short, other)
    )
    assert same.setting == hat.setting and same.variant == hat.variant
    assert after_short.setting == hat.setting | {"extends.with": ("epochs=1",)}
    assert after_other.label == "hat (extends.with=c=0.1)" and after_other.setting == hat.setting


def test_what_ended_early_is_told_with_its_reason(runs, tmp_path):
    shutil.copytree(runs / "running" / "seed7", tmp_path / "run")
    (tmp_path / "run" / "diverged").write_text("the loss is not a finite number: lower lr")
    ((record,), _) = read.read_all([tmp_path])
    assert record.state == "diverged: 2 of 3 tasks"
    _, _, lacks = write.write([record], tmp_path / "out")
    (told,) = [lack.what for lack in lacks if "ended early" in lack.what]
    assert told.endswith("run ended early: the loss is not a finite number: lower lr")
    assert not [lack for lack in lacks if "wait, or repeat" in lack.what]


def test_seeds_without_their_reference_runs_are_counted(runs):
    records, _ = read.read_all([runs / a for a in ("hat", "random")])
    records += [r for r in read.read_all([runs / "joint"])[0] if r.seed == 1]
    (found,), _ = groups.groups(records)[0].values(), None
    every = numbers.all_values(found)
    ends = numbers.at_end(every.runs).set_index("approach").loc["hat"]
    assert ends["seeds"] == 2 and ends["rho seeds"] == 1
    table = tables.by_metric(every.named(groups.names(found))).set_index("approach")
    assert table.loc["HAT", "ρ"].endswith(" (1 seed)") and table.loc["HAT", "seeds"] == "2"
    assert "seed" not in table.loc["HAT", "average accuracy (%)"]
    assert tables.math("-0.2 ± 0.1 (2 seeds)") == r"$-0.2 \pm 0.1$ (2 seeds)"


def test_tables_of_groups_with_like_names_are_kept_apart(runs, tmp_path):
    records, _ = read.read_all([runs / "hat"])
    for record, name in zip(records, ("digits-一", "digits-二"), strict=True):
        record.config.experiment = name
    write.write(records, tmp_path / "out")
    written = sorted(p.name for p in (tmp_path / "out" / "tables").iterdir())
    assert written == ["digits-again.tex", "digits.tex"]
    html = (tmp_path / "out" / "index.html").read_text()
    assert all(html.count(f"tables/{file};") == 1 for file in written)


def command(folder: Path, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hatjax.report", *args],
        cwd=folder, env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_command_and_runs_that_are_damaged(runs, tmp_path):
    for name in ("hat", "sgd"):
        shutil.copytree(runs / name, tmp_path / "runs" / name)
    (tmp_path / "runs" / "hat" / "seed0" / "accuracy.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "runs" / "sgd" / "seed1" / "metrics.jsonl").write_text("{}\n")
    done = command(tmp_path, "runs", "--out=r")
    assert done.returncode == 0, done.stderr
    assert "note: runs/hat/seed0/accuracy.npy is damaged" in done.stderr
    assert "metrics.jsonl is damaged in line 1" in done.stderr and "Traceback" not in done.stderr
    assert re.search(r"\| HAT \|.*\| 1 \|", done.stdout) and "report in r/index.html" in done.stdout
    # A report is replaced, anything else is not.
    assert command(tmp_path, "runs", "--out=r").returncode == 0
    refused = command(tmp_path, "runs", "--out=runs")
    assert refused.returncode == 2 and "holds other things than a report" in refused.stderr
    assert (tmp_path / "runs" / "hat" / "seed1" / "done").exists()


def test_bad_input(runs, tmp_path):
    with pytest.raises(InputError, match="there is no folder .*nowhere"):
        read.read_all([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="holds no run of hatjax"):
        read.read_all([tmp_path])
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="is not that of a run of hatjax"):
        read.read_all([tmp_path])
    text = (runs / "hat" / "seed0" / "config.json").read_text()
    (tmp_path / "foreign" / "config.json").write_text(text.replace('"digits",', "3,", 1))
    with pytest.raises(InputError, match="it has no experiment"):
        read.read_all([tmp_path])
    (tmp_path / "foreign" / "config.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="config.json is damaged"):
        read.read_all([tmp_path])
    done = command(tmp_path)
    assert done.returncode == 2 and "which runs?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_lines_and_groups(runs):
    records, _ = read.read_all([runs])
    found, twice = groups.groups(records)
    assert list(found) == ["digits", "compression"] and not twice
    labels = [record.label for record in found["digits"]]
    assert "hat" in labels and "hat (c=2, s_max=50)" in labels
    text = tables.markdown(found, numbers.all_values(records))
    # The defaults beside a grid are named as its other settings are, and stand among them.
    names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| HAT")]
    default = config.make("digits", "hat").approach.c
    assert names[:5] == [
        "HAT (c=0.1, s_max=50)", "HAT (c=0.1, s_max=400)", f"HAT (c={default:g}, s_max=400)",
        "HAT (c=2, s_max=50)", "HAT (c=2, s_max=400)",
    ]  # fmt: skip
    assert "| ρ |" in text and "ρ≤2" in text and "rho" not in text and "| SGD |" in text


def test_load_gives_frames(runs):
    frames = load(runs)
    sgd = frames.runs[frames.runs["approach"] == "sgd"]
    assert list(sgd["seed"]) == [0, 1] and set(sgd["state"]) == {"finished"}
    acc = np.load(runs / "sgd" / "seed1" / "accuracy.npy")
    assert sgd["average accuracy"].iloc[1] == pytest.approx(acc[-1].mean())
    tasks = frames.tasks[frames.tasks["workdir"] == sgd["workdir"].iloc[1]]
    assert list(tasks["tasks learned"]) == [1, 2, 3] and len(set(tasks["task"])) == 3
    expected = [acc[t, : t + 1].mean() for t in range(3)]
    assert list(tasks["average accuracy"]) == pytest.approx(expected)
    # 13 runs of three tasks of two epochs, and one of a task of three; `random` trains nothing.
    assert len(frames.epochs) == 13 * 3 * 2 + 3
    lines = (runs / "sgd" / "seed1" / "metrics.jsonl").read_text().splitlines()
    epochs = frames.epochs[frames.epochs["workdir"] == sgd["workdir"].iloc[1]]
    for row, line in zip(epochs.to_dict("records"), lines, strict=True):
        assert row.items() >= json.loads(line).items()
    # The fields of the configuration are columns: the grid of two numbers, four settings.
    grid = frames.runs[frames.runs["workdir"].str.contains("grid")]
    found = grid.pivot(index="approach.c", columns="approach.s_max", values="average accuracy")
    assert found.shape == (2, 2) and found.notna().all(axis=None)
    (running,) = frames.runs[~frames.runs["finished"]].to_dict("records")
    assert (running["tasks"], running["tasks learned"]) == (3, 2)


def test_the_example_of_the_readme(runs, tmp_path, monkeypatch):
    (tmp_path / "results").symlink_to(runs)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
    (code,) = re.findall(r"```python\n(from hatjax import report\n.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)
    for name in numbers.Runs._fields:
        (columns,) = re.findall(rf"\| `{name}` \| .* \| (.*) \|", text)
        told = {c for c in re.findall("`([^`]*)`", columns) if not c.endswith(".jsonl")}
        assert told and told <= set(names[name].columns), (name, told)
    # Means over seeds, as the tables have them.
    table = names["tasks"].pivot_table("rho", "tasks learned", "approach")
    over = numbers.over_seeds(names["tasks"])
    (mine,) = over[(over["approach"] == "sgd") & (over["tasks learned"] == 3)]["rho"]
    assert table.loc[3, "sgd"] == pytest.approx(mine)


def test_load_leaves_out_what_is_damaged_with_a_warning(runs, tmp_path):
    shutil.copytree(runs / "hat", tmp_path / "hat")
    (tmp_path / "hat" / "seed0" / "accuracy.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.warns(UserWarning, match="seed0/accuracy.npy is damaged"):
        assert list(load(tmp_path).runs["seed"]) == [1]
    with pytest.raises(InputError, match="there is no folder"):
        load(tmp_path / "nowhere")


def test_spread_over_seeds():
    frame = pd.DataFrame({m: [1.0, 2.0, 3.0, np.nan, 5.0] for m in numbers.METRICS})
    found = numbers.spread(frame.assign(of=list("aaabb")), ["of"]).set_index("of")
    row = found.loc["a"]
    assert (row["rho"], row["rho std"], row["seeds"]) == (2, 1, 3)
    reach = 4.3027 / 3**0.5  # Student's t for three seeds: 4.303 standard errors
    assert (row["rho low"], row["rho high"]) == pytest.approx((2 - reach, 2 + reach), abs=1e-4)
    # One number has a mean, and neither deviation nor interval.
    assert found.loc["b", "rho"] == 5 and found.loc["b", ["rho std", "rho low"]].isna().all()


def test_settings_are_what_differs_from_the_defaults():
    for experiment in config.EXPERIMENTS:
        for approach in config.APPROACHES:
            assert settings.different(config.make(experiment, approach)) == ({}, {})
    same = config.make("pmnist", "sgd", same=True)
    assert settings.different(same) == ({}, {"same": True})
    # A network that is neither default is compared with HAT's, whatever the approach.
    for approach in ("hat", "sgd", "wsn"):
        c = config.make("pmnist", approach)
        c.network.widths, c.network.dropout_in = (100, 100), 0.0
        setting, variant = settings.different(c)
        assert setting["network.widths"] == (100, 100) and setting["network.dropout_in"] == 0
        assert not variant
    for name in ("mine-split5", "mine-permuted3"):
        assert settings.different(config.make(name, "ewc")) == ({}, {})
        assert settings.different(config.make(name, "ewc", same=True)) == ({}, {"same": True})
    c = config.make("pmnist", "hat", network="resnet18")
    c.approach.c, c.lr = 2.0, 0.1
    assert settings.different(c) == ({"network.name": "resnet18", "lr": 0.1}, {"approach.c": 2.0})
    # The fields that only the chosen network and optimizer have.
    c.network.norm = "group"
    config.choose(c, {"optimizer.name": "adamw", "optimizer.weight_decay": 0.05})
    setting, _ = settings.different(c)
    assert names.words(setting) == (
        "lr=0.1, network=resnet18, norm=group, optimizer=adamw, optimizer.weight_decay=0.05"
    )


def test_fields_have_different_names():
    """Runs are grouped by them."""
    paths = {
        path
        for experiment in config.EXPERIMENTS
        for network in (None, *config.NETWORKS)
        for path in config.fields(config.make(experiment, "sgd", network=network))
        if path not in settings.NOT_COMPARED
    }
    assert len({names.short(path) for path in paths}) == len(paths) > 20
    values = [1.0, 1.0000001, 0.1234567, (12, 12), (1, 212), ("a", "b"), "x"]
    assert len(set(map(names.value, values))) == len(values)


def test_names_are_text_in_html_and_latex(runs, tmp_path):
    where = tmp_path / "runs" / "a"
    shutil.copytree(runs / "sgd" / "seed0", where)
    text = (where / "config.json").read_text()
    name = "<b>$x$ &_%"
    (where / "config.json").write_text(text.replace('"digits",', f'"{name}",', 1))
    records, notes = read.read_all([where])
    write.write(records, tmp_path / "out", notes)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "&lt;b&gt;$x$ &amp;_%" in page and "<b>$x$" not in page
    table = tables.latex(pd.DataFrame({"approach": ["sgd (a_b=$x$ \\input)"], "rho": ["-1"]}), "x")
    assert r"SGD (a\_b=\$x\$ \textbackslash input)" in table.replace("{}", "")


def test_groups_are_named_by_what_tells_them_apart():
    plain, short, adam, decay = (config.make("digits", "sgd") for _ in range(4))
    short.epochs = 5
    config.choose(adam, {"optimizer.name": "adamw"})
    config.choose(decay, {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1})
    records = [
        read.Record(Path(str(i)), c) for i, c in enumerate((plain, short, adam, decay, plain))
    ]
    found, twice = groups.groups(records)
    assert {str(runs[0].where): name for name, runs in found.items()} == {
        "0": "digits (default epochs, default optimizer, default optimizer.weight_decay)",
        "1": "digits (epochs=5, default optimizer, default optimizer.weight_decay)",
        "2": "digits (default epochs, optimizer=adamw, default optimizer.weight_decay)",
        "3": "digits (default epochs, optimizer=adamw, optimizer.weight_decay=0.1)",
    }
    assert twice == ["4 is left out: it is the same run as 0"]
    # Of two the one that has got further stays.
    further = dataclasses.replace(records[4], acc=np.eye(1), names=("a",))
    found, twice = groups.groups([*records[:4], further])
    assert further in found["digits (default epochs, default optimizer, default "
                            "optimizer.weight_decay)"]  # fmt: skip
    assert twice == ["0 is left out: it is the same run as 4"]


def test_copies_of_some_kilobytes_give_the_same_report(runs, tmp_path):
    sources = [runs / "hat", runs / "running", runs / "alone"]
    copies, notes = thin.copy_all(sources, tmp_path / "kept")
    assert [c.relative_to(tmp_path / "kept") for c in copies] == list(
        map(Path, ("seed0", "seed1", "alone"))
    )
    assert len(notes) == 1 and "seed7 is left out: it is unfinished" in notes[0]
    assert thin.copy_all(sources, tmp_path / "kept")[0] == copies  # in place of the first
    for copy in copies:
        assert sum(f.stat().st_size for f in copy.iterdir()) < 20_000
        assert files.read_config(copy).data.root == ""
    mine, theirs = load(runs / "hat"), load(tmp_path / "kept" / "seed0", tmp_path / "kept/seed1")
    for frame in ("runs", "tasks"):
        a, b = (getattr(r, frame).drop(columns="workdir") for r in (mine, theirs))
        pd.testing.assert_frame_equal(a, b)
    (tmp_path / "kept" / "seed0" / "config.json").write_text(
        (runs / "alone" / "config.json").read_text()
    )
    with pytest.raises(InputError, match="seed0 holds a run of another configuration"):
        thin.copy_all(sources, tmp_path / "kept")
    with pytest.raises(InputError, match="no finished run to copy"):
        thin.copy_all([runs / "running"], tmp_path / "other")


def test_copies_are_of_whole_runs_and_never_the_runs_themselves(runs, tmp_path):
    shutil.copytree(runs / "hat", tmp_path / "hat")
    (tmp_path / "hat" / "seed0" / "accuracy.npy").write_bytes(b"\x93NUMPY\x01")
    copies, notes = thin.copy_all([tmp_path / "hat"], tmp_path / "kept")
    assert [c.name for c in copies] == ["seed1"] and "accuracy.npy is damaged" in notes[0]
    before = (tmp_path / "hat" / "seed1" / "config.json").read_text()
    with pytest.raises(InputError, match="seed1 is the run itself: copy it to another folder"):
        thin.copy_all([tmp_path / "hat"], tmp_path / "hat")
    assert (tmp_path / "hat" / "seed1" / "config.json").read_text() == before


def test_some_epochs_are_kept_of_every_task():
    rows = [{"task": t, "epoch": e, "lr": 1 / 3} for t in (0, 1) for e in range(50 * t + 4)]
    kept = thin.thinned(rows)
    assert [(r["task"], r["epoch"]) for r in kept] == [
        *((0, e) for e in range(4)), *((1, e) for e in (0, 11, 21, 32, 42, 53)),
    ]  # fmt: skip
    assert kept[0]["lr"] == 0.3333
    frame = pd.DataFrame(kept).assign(used_fc1=np.linspace(0, 1, len(kept)))
    line = figures.capacity(frame).axes[0].lines[0]
    assert line.get_xdata()[[0, 3, 4, -1]].tolist() == [1, 4, 5, 58]
