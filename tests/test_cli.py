"""The command line: configuration files, flags and flag files, seeds, grids, studies."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from hatjax import cli, config, data, plans, study
from hatjax.config import file, grid
from hatjax.errors import InputError, Interrupted
from hatjax.experiment import description, run, stop, sweep
from hatjax.workdir import files
from tests import hostile
from tests.installed import python


@pytest.mark.parametrize(
    "text, value",
    [
        ("5", 5),
        ("0.1,.2", (0.1, 0.2)),
        ("mnist", "mnist"),
        ("mnist,digits", ("mnist", "digits")),
        ("(mnist, tiny-imagenet-200)", ("mnist", "tiny-imagenet-200")),
        ("[crop]", ("crop",)),
        ("mnist,", ("mnist",)),
        ("('a,b', 'c')", ("a,b", "c")),
        ("", ""),
        ("()", ()),
        ("(a", "(a"),
    ],
)
def test_a_value_as_a_user_writes_it(text, value):
    assert config.literal(text) == value


@pytest.mark.parametrize(
    "content, says",
    [
        ("def get_config(:\n", "mine.py, line 1: SyntaxError"),
        ("def get_config():\n    return {}['a']\n", "mine.py, line 2: KeyError: 'a'"),
        ("def get_config():\n    open('gone')\n", "mine.py, line 2: FileNotFoundError"),
        ("import nothing_here\n", "mine.py, line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
        ("\0", "mine.py: "),
        ("x = 1\n", "mine.py defines no function get_config"),
        ("def get_config():\n    pass\n", "mine.py: get_config returned a NoneType: expected a"),
        ("def get_config(arg):\n    pass\n", "mine.py needs an argument"),
        ("from hatjax import config\nget_config = lambda: config.make('x', 'hat')\n", "experiment"),
    ],
)
def test_a_configuration_file_that_fails(tmp_path, content, says):
    (tmp_path / "mine.py").write_text(content)
    assert not hostile.told(file.load, str(tmp_path / "mine.py"), says=says)


def test_any_approach_on_any_image_set():
    c = file.load("baseline.py:ewc,fashion_mnist-split5,same")
    assert (c.approach.name, c.data.sets, c.network.widths) == (
        "ewc", ("fashion_mnist",), (2000, 2000)
    )  # fmt: skip
    assert (c.experiment, c.tasks.kind, c.tasks.count) == ("fashion_mnist-split5", "split", 5)
    assert file.load("baseline.py:ewc,a-b-permuted12,alexnet").network.name == "alexnet"
    hat, also = file.load("baseline.py:hat,x-permuted3"), file.load("hat_permuted.py:x,3")
    assert not files.differences(hat, also)
    assert not hostile.told(file.load, "baseline.py:ewc,x-split", says="On any image set: NAME-")


def test_a_configuration_file_by_path_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("baseline.py:ewc,digits", "configs/baseline.py:ewc,digits"):
        assert file.load(name).approach.name == "ewc"
    (tmp_path / "baseline.py").write_text("from hatjax.config import make\n\n\ndef get_config():\n"
                                          "    return make('digits', 'lwf')\n")  # fmt: skip
    assert file.load("baseline.py").approach.name == "lwf"  # one's own comes first
    for name in ("nope.py", "other/baseline.py", "configs", "x" * 5000):
        assert not hostile.told(file.load, name, says="no configuration file")
    assert not hostile.told(file.load, "hat_digit.py", says="Did you mean hat_digits.py?")
    assert not hostile.told(file.load, str(tmp_path), says="it is a folder")
    assert not hostile.told(file.load, "hat_pmnist.py:x", says="takes no argument, but 'x'")


@pytest.mark.parametrize("more", [(), ("--config.epochs=3",), ("--config.a.b=3", "--dry_run")])
def test_a_missing_file_beside_other_flags(tmp_path, more):
    done = python(tmp_path, "-m", "hatjax.main", "--config=nope.py", *more)
    assert done.returncode == 2 and "no configuration file nope.py" in hostile.one_line(done.stderr)


@pytest.mark.parametrize(
    "words, says",
    [
        (["--flagfile=F"], ["--config=a.py", "--config.epochs=3"]),
        (["--flagfile", "F", "--config.epochs=4"],
         ["--config=a.py", "--config.epochs=3", "--config.epochs=4"]),
        (["--config.lr=1", "--flagfile=F"],
         ["--config=a.py", "--config.lr=1", "--config.epochs=3"]),
        (["--flagfile=F", "--config", "b.py"], ["--config=b.py", "--config.epochs=3"]),
        (["--flagfile=G"], [f"--config={file.CONFIGS / 'x.py'}", "--config.lr=2"]),
        ([], [f"--config={file.CONFIGS / 'x.py'}"]),
    ],
)  # fmt: skip
def test_flag_files(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    Path("F").write_text("--config=a.py\n# a note\n--config.epochs=3\n")
    Path("G").write_text("--config.lr=2\n")
    assert cli.completed(["prog", *words], "x.py", "") == ["prog", *says]


def test_flag_files_that_fail(tmp_path, monkeypatch):
    with pytest.raises(flags.Error, match="nope"):
        cli.completed(["prog", f"--flagfile={tmp_path}/nope"], "x.py", "")
    with pytest.raises(InputError, match="which file"):
        cli.completed(["prog", "--dry_run"], "", "which file")


def given(monkeypatch, *words: str):
    """The configuration of the digits, read while these flags are on the command line."""
    monkeypatch.setattr(cli, "WORDS", [*words])
    return cli._ConfigParser().parse("baseline.py:hat,digits")


@pytest.mark.parametrize(
    "word, says",
    [
        ("--config.approach=ewc", "choose it by --config configs/baseline.py:ewc,EXPERIMENT"),
        ("--config.approach=ewcc", "Did you mean 'ewc'"),
        ("--config.approach.name=sgd", "--config configs/baseline.py:sgd,EXPERIMENT"),
        ("--config.approach.name=ewc", "another approach, without approach.lamb; choose it by"),
        ("--config.network=vit", "config.network = 'vit': choose it by --config.network.name=vit"),
        ("--config.optimizer=adamw", "choose it by --config.optimizer.name=adamw"),
        ("--config.tasks=5", "it is a group of fields; set them one by one: --config.tasks.count="),
    ],
)
def test_a_flag_for_a_whole_group(monkeypatch, word, says):
    assert not hostile.told(given, monkeypatch, word, says=says)
    assert not hostile.told(given, monkeypatch, *word.split("=", 1), says=says)


def test_fields_of_several_types(monkeypatch):
    """Seeds and dropout rates: a number or a tuple, from a flag as in a file."""
    c = given(monkeypatch)
    for value in (3, (0, 5)):
        c.seeds = value
    c.network.dropout = (0.1, 0.2)
    config.check(c)
    assert cli._TupleParser().parse("mnist,digits") == ("mnist", "digits")
    assert cli._TupleParser().parse("mnist") == ("mnist",)
    assert cli._ValueParser().parse("0,5") == (0, 5)
    assert given(monkeypatch, "--config.network.name=convnet").network.name == "convnet"


def test_seeds_mean_the_same_everywhere():
    c = config.make("digits", "hat")
    s = plans.study("s", {"digits": {}}, ("sgd",))
    seeds = {1: [0], 3: [0, 1, 2], (5,): [5], (0, 5): [0, 5], (7, 2): [7, 2]}
    for value, expected in seeds.items():
        c.seeds = s.seeds = value
        assert [r.seed for r in plans.replicas(c).values()] == expected
        assert [r.seed for r in plans.runs(s).values()] == expected
        again = plans.study("s", {"digits": {}}, ("sgd",), value)
        assert [r.seed for r in plans.runs(again).values()] == expected
    c.seed, c.seeds = 4, 2
    assert list(plans.replicas(c)) == ["seed4", "seed5"]
    c.seeds = (1, 2)
    assert not hostile.told(plans.replicas, c, says="leave config.seed out")
    for bad in (0, (), (1, 1), (-1,), "3", 2.5, True, (0, 2**32), ("a",), ((1,),)):
        c.seeds = s.seeds = bad
        for work, what in ((plans.replicas, c), (plans.runs, s)):
            assert not hostile.told(work, what, says="config.seeds = ")
    assert len(plans.runs(file.load("study_paper.py"))) == 750


@pytest.mark.parametrize(
    "text, names",
    [
        ("batch=16,32", ["seed0-batch=16", "seed0-batch=32"]),
        ("network.widths=(9, 8),(20)", ["seed0-widths=9x8", "seed0-widths=20"]),
        ("network.dropout=0,(0.1,0.2)", ["seed0-dropout=0", "seed0-dropout=0.1x0.2"]),
        ("data.augment=(),(crop,flip)", ["seed0-augment=none", "seed0-augment=crop+flip"]),
        ("schedule=cosine lr=0.1", ["seed0-schedule=cosine-lr=0.1"]),
        ("network.name=vit network.depth=1", ["seed0-network=vit-depth=1"]),
        ("optimizer.name=adamw optimizer.eps=0.1", ["seed0-optimizer=adamw-eps=0.1"]),
    ],
)
def test_a_grid_over_any_field(text, names):
    c = config.make("digits", "hat")
    c.grid = text
    c.lock()
    runs = plans.replicas(c)
    assert list(runs) == names
    for r in runs.values():
        assert config.fields(config.from_json(config.to_json(r))) == config.fields(r)
        assert not r.grid


@pytest.mark.parametrize(
    "text, says",
    [
        ("bach=3", "Did you mean 'batch'"),
        ("batch=16.5", "config.batch = 16.5: expected a whole number"),
        ("batch=", "expected values after batch="),
        ("network.widths=20,30", "expected tuples, in brackets, after network.widths="),
        ("network.heads=2", "unknown field of config.grid 'network.heads'"),
        ("seed=1,2", "it cannot vary seed: give --config.seeds"),
        ("approach.name=hat,sgd", "several approaches are a study"),
        ("data.root=a,b", "it does not change what is learned"),
    ],
)
def test_a_grid_that_is_refused(text, says):
    c = config.make("digits", "hat")
    c.grid = text
    assert not hostile.told(plans.replicas, c, says=says)


def test_runs_that_are_alike_share_a_program():
    c = config.make("digits", "hat")
    c.seeds, c.grid = 2, "batch=16,32 approach.c=0.1,1"
    groups = [list(group) for group in grid.alike(plans.replicas(c))]
    assert groups == [[f"seed{s}-batch={b}-c={k}" for s in (0, 1) for k in ("0.1", "1")]
                      for b in (16, 32)]  # fmt: skip


def test_a_sweep_over_shapes(tmp_path, capsys):
    """Its runs train in programs of their own, go on, and are those of the runs alone."""
    c = config.make("digits", "sgd")
    c.tasks.count, c.epochs, c.data.examples = 2, 1, 100
    c.grid = "network.widths=(6,),(8,4)"
    runs, where = plans.replicas(c), tmp_path / "w"
    listed = description.describe(c, runs, where)
    assert "2 runs in " in listed and listed.count("  to do     seed0") == 2 and not where.exists()
    stopping, plan, made = stop.Stopping(), sweep.plan, []

    def stop_at_the_second(*args):
        made.append(args)
        stopping._asked = 0.0 if len(made) == 2 else None
        return plan(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(sweep, "plan", stop_at_the_second)
        run.run_sweep(where, runs, stopping=stopping)
    assert "training seed0-widths=6\n" in capsys.readouterr().out
    assert json.loads((where / "plan.json").read_text()) == [[name] for name in runs]
    listed = "\n".join(description.listed(runs, where))
    assert "finished  seed0-widths=6\n  to do     seed0-widths=8x4" in listed
    accs = run.run_sweep(where, runs, quiet=True)
    (alone,) = run.run_sweep(tmp_path / "alone", {"": runs["seed0-widths=8x4"]}, quiet=True)
    np.testing.assert_array_equal(accs[1], alone)


def test_what_a_grid_cannot_train_is_told_before_it_begins(tmp_path):
    c = config.make("digits", "sgd")
    c.grid = "tasks.count=2 optimizer.name=sgd,nope"
    runs = plans.replicas(c)
    assert not hostile.told(run.run_sweep, tmp_path / "w", runs, says="'nope'")
    assert not hostile.told(description.describe, c, runs, tmp_path / "w", says="'nope'")
    assert not (tmp_path / "w").exists()


def test_a_study_without_a_file(tmp_path):
    done = python(tmp_path, "-m", "hatjax.study", "--config.seeds=3")
    assert done.returncode == 2 and "hatjax.study FILE" in hostile.one_line(done.stderr)
    assert all(name in done.stderr for name in ("study_mnist.py", "study_paper.py"))
    assert not list(tmp_path.iterdir())


def test_missing_images_are_tried_once(tmp_path, monkeypatch, capsys):
    tried = []

    def load(name, where):
        tried.append(name)
        raise InputError(f"image set {name!r} cannot be had")

    monkeypatch.setattr(data, "load", load)
    s = plans.study("s", {"mnist2": {}, "pmnist": {}}, ("hat", "sgd", "ewc", "lwf"))
    for own in s.experiments.values():
        own.data = {"root": str(tmp_path)}
    runs = [study.Run(name, c, tmp_path / name) for name, c in plans.runs(s).items()]
    failed = study.execute(runs, stop.Stopping())
    assert tried == ["mnist"] and len(failed) == 8 and not list(tmp_path.iterdir())
    assert capsys.readouterr().out.count("cannot be had") == 1
    ((names, reason),) = study.by_reason(failed)
    assert names.startswith("mnist2-hat-seed0, ") and names.endswith(" and 5 more")
    assert reason == "image set 'mnist' cannot be had"
