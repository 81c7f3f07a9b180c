"""Configurations with anything in them: each works, or is refused in one line that names it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ml_collections import ConfigDict

import hatjax
from hatjax import config, data, plans
from hatjax.data import npz
from hatjax.errors import InputError
from hatjax.experiment import run
from hatjax.workdir import files
from tests import hostile, raw_files

FIELDS = {a: tuple(config.fields(config.make("digits", a))) for a in config.APPROACHES}
SINGLE = (
    *hostile.NUMBERS, *hostile.TEXTS, None, True, False, (), (1,), (0,), (10**9,), (2**70,),
    (-1, 2), (1.5, 2), ("a",), ("digits",), (None,), ((),), (float("nan"),), (0.5, 0.5),
    (1,) * 2000, (32, 32, 3), (10**5, 10**5, 3), [], [1], b"x", 1j, np.float64(2), np.int64(3),
    np.zeros(2), object(), 10**5000, "x" * 10**5,
)  # fmt: skip


def changed(c: ConfigDict, path: str, value: object) -> ConfigDict:
    """The configuration with one field otherwise, which no check of types has seen."""
    content = c.to_dict()
    *parts, last = path.split(".")
    inner = content
    for part in parts:
        inner = inner[part]
    inner[last] = value
    return ConfigDict(content)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A small image set under each name that an experiment has."""
    folder = tmp_path_factory.mktemp("root")
    names = {name for e in config.EXPERIMENTS.values() for name in e["data"]["sets"]} - {"digits"}
    for name in names:
        grey = name in ("mnist", "fashion_mnist", "notmnist")
        sized = raw_files.raw(n=200, side=28 if grey else 32, channels=1 if grey else 3, classes=10)
        npz.write(folder / f"{name}.npz", sized)
    return folder


@pytest.fixture(scope="module", autouse=True)
def offline():
    """No test downloads anything."""
    kept = data.sources.load

    def load(name, where):
        if name != "digits":
            raise InputError(f"image set {name!r} is not in {where}, and tests download nothing")
        return kept(name, where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.sources, "load", load)
        yield


@pytest.mark.parametrize("approach", config.APPROACHES)
def test_each_value_in_each_field(approach):
    """Fields that HAT has, too, and that belong to no approach: for HAT alone."""
    experiments = config.EXPERIMENTS if hostile.SLOW > 1 else ("digits", "cifar")
    for experiment in experiments:
        usual = config.make(experiment, approach)
        shared = set(config.fields(config.make(experiment, "hat")))
        shared = {path for path in shared if not path.startswith("approach.")}
        if approach == "hat" or hostile.SLOW > 1:
            shared = set()
        for path in set(config.fields(usual)) - shared:
            for value in SINGLE:
                c = changed(usual, path, value)
                # Which of the fields that belong to an approach is named is free.
                says = "approach" if path.startswith("approach") else path
                hostile.told(config.check, c, says=says)


@hostile.examples(600)
@given(st.data())
def test_any_values(data):
    approach = data.draw(st.sampled_from(list(FIELDS)))
    experiment = data.draw(st.sampled_from(list(config.EXPERIMENTS)))
    content = json.loads(config.to_json(config.make(experiment, approach)))
    for _ in range(data.draw(st.integers(1, 3))):
        *parts, last = data.draw(st.sampled_from([*FIELDS[approach], "new", "data", "network.x"])
                                 ).split(".")  # fmt: skip
        inner = content
        for part in parts:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            if data.draw(st.booleans()):
                inner[last] = data.draw(hostile.values)
            else:
                inner.pop(last, None)

    def read():
        c = config.from_json(json.dumps(content))
        for one in plans.replicas(c).values() if c.get("seeds") in (1, 2) else ():
            assert config.from_json(config.to_json(one)) == one

    hostile.told(read)


@hostile.examples(60)
@given(
    st.sampled_from(list(config.EXPERIMENTS)),
    st.sampled_from(list(config.APPROACHES)),
    st.data(),
)
def test_what_passes_can_be_prepared(root, experiment, approach, data):
    c = config.make(experiment, approach)
    c.data.root, c.data.examples = str(root), 0 if experiment == "digits" else 150
    paths = tuple(config.fields(c))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(paths))
        c = changed(c, path, data.draw(st.sampled_from(SINGLE) | hostile.plain))
    hostile.told(run.prepare, c)


# Fields at the ends of their ranges, alone and together.
EXTREME = {
    "batch": (1, 10**6), "eval_batch": (1, 10**6), "epochs": (2**31 - 1,), "lr": (1e-37, 3e38),
    "tasks.count": (1, 2, 10, 1000, 10000), "tasks.kind": ("split", "permuted"),
    "network.widths": ((1,), (10**6,), (1,) * 50, (10**6,) * 9), "seed": (2**32 - 1,),
    "network.dropout": (0.0, 0.999, (0.5,), (0.1, 0.2)), "network.name": ("mlp", "alexnet"),
    "network.expand": (1e-300, 100.0), "network.modules": (1, 1000), "network.active": (1, 1000),
    "data.examples": (1, 20, 2**31 - 1), "data.image": ((1, 1, 1), (65535, 65535, 1)),
    "tasks.valid": (1e-300, 1 - 1e-16), "tasks.valid_code": (0.0, 0.99), "fidelity": ("code",),
    "approach.rivals": (1000,),
}  # fmt: skip


@hostile.examples(60, seconds=30)
@given(st.data())
def test_ends_of_the_ranges_can_be_prepared(root, data):
    c = config.make(
        data.draw(st.sampled_from(list(config.EXPERIMENTS))),
        data.draw(st.sampled_from(list(config.APPROACHES))),
    )
    c.data.root = str(root)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from([k for k in EXTREME if k in config.fields(c)]))
        c = changed(c, path, data.draw(st.sampled_from(EXTREME[path])))
    hostile.told(run.prepare, c)


@hostile.examples(500)
@given(
    hostile.damaged(config.to_json(config.make("digits", "hat")).encode())
    | st.binary(max_size=80)
    | hostile.values.map(lambda v: json.dumps(v, default=str).encode())
    | st.sampled_from([10, 11, 900, 10**5]).map(lambda n: b'{"a":' * n + b"1" + b"}" * n)
    | st.sampled_from([10, 11, 900, 10**5]).map(lambda n: b"[" * n + b"]" * n)
    | st.sampled_from([b'{"epochs":' + b"9" * 5000 + b"}", b"\xff\xfe", b"{}", b'{"__class__": 1}'])
)
def test_any_config_json(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "config"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(content)
    hostile.told(lambda: config.check(files.read_config(folder)))


@hostile.examples(300)
@given(
    st.text(max_size=40)
    | st.lists(
        st.tuples(
            st.sampled_from(("approach.s_max", "approach.c", "lr", "epochs", "x", "")),
            st.lists(st.sampled_from(("1", "2.5", "nan", "inf", "1e308", "-1", "x")), max_size=4),
        ),
        max_size=4,
    ).map(lambda axes: " ".join(f"{k}={','.join(v)}" for k, v in axes))
)
def test_any_grid(grid):
    c = config.make("digits", "hat")
    c.grid = grid
    hostile.told(plans.replicas, c)


def test_too_many_runs():
    c = config.make("digits", "hat")
    c.seeds, c.grid = 5000, "lr=1,2,3"
    assert not hostile.told(plans.replicas, c, says="15000 runs: expected at most 10000")


STUDY = json.dumps(
    plans.study("s", {"digits": {"epochs": 2, "grid": {"hat": "lr=1,2"}}}, ("hat", "sgd")).to_dict()
)


@hostile.examples(300)
@given(st.sampled_from(("", "digits", "digits.grid", "digits.data")), st.text("ab."), st.data())
def test_any_study(where, new, data):
    content = json.loads(STUDY)
    inner = content if not where else content["experiments"]
    for part in where.split(".") if where else ():
        inner = inner.setdefault(part, {})
    inner[data.draw(st.sampled_from((*inner, new, "approaches", "grid", "lr")))] = data.draw(
        hostile.values
    )
    hostile.told(lambda: plans.runs(config.from_json(json.dumps(content))))


@hostile.examples(150)
@example(settings={"approach.c": {".": 0}}, approach="hat")
@given(
    st.dictionaries(st.sampled_from((*FIELDS["hat"], "epoch", "")), hostile.values, max_size=3),
    st.sampled_from(("hat", "nope", "")),
)
def test_any_settings_of_fit(settings, approach):
    """Of one example a task, so that none is trained."""
    x, y = np.zeros((1, 2)), np.zeros(1, int)
    assert not hostile.told(lambda: hatjax.fit([(x, y, x, y)], approach, quiet=True, **settings))


@pytest.mark.parametrize(
    "args, says",
    [
        (["--config.epochs=1180591620717411303424"], "config.epochs = 1180591620717411303424"),
        (["--config.network.widths=(1000000,1000000)"], "000,100 parameters takes 4,000.7 GB"),
        (["--config.batch=1000000000000"], "config.batch = 1000000000000: expected a whole"),
        (["--config.lr=1e308"], "config.lr = 1e+308: expected a number from 1e-37 to 3e38"),
        (["--config.experiment=../../x"], "config.experiment = '../../x'"),
        (["--config.data.root=~no-such-user/x"], "~no-such-user/x: there is no such home folder"),
    ],
)
def test_the_command(tmp_path, args, says):
    done = subprocess.run(
        [sys.executable, "-m", "hatjax.main", *args],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and says in hostile.one_line(done.stderr)
    assert not list(tmp_path.iterdir())
