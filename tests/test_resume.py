"""A run that is cut off, by whatever it is, goes on to the same bits."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import hatjax
from hatjax import config, plans, study
from hatjax.analysis import models
from hatjax.errors import InputError, Interrupted
from hatjax.experiment import checkpoints, course, run, stop
from hatjax.experiment.checkpoints import Position
from hatjax.workdir import files, results, sums

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = [
    "--config.network.widths=(20,20)", "--config.tasks.count=3", "--config.epochs=6",
    "--config.data.examples=300", "--config.checkpoint.epochs=1",
]  # fmt: skip
KINDS = {  # what is killed, and its flags
    "hat": [],
    "ewc": [],
    "lwf": [],
    "imm_mode": [],
    "pathnet": ["--config.approach.generations=2"],
    "replicas": ["--config.seeds=2", "--config.grid=approach.c=0.1,0.75"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(tmp_path, cache):
    """Starts `python -m hatjax.main ARGS` in an empty folder."""

    def call(*args, env=os.environ):
        return subprocess.Popen(
            [sys.executable, "-m", "hatjax.main", *map(str, args)],
            cwd=tmp_path, env=env | {"XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return call


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def until(process: subprocess.Popen, text: str) -> str:
    """Read lines until one has `text`; the lines."""
    lines = ""
    for line in process.stdout:
        lines += line
        if text in line:
            break
    return lines


def same(one: Path, other: Path) -> None:
    """The results of two workdirs are the same bits, and nothing else is left."""
    for name in ("metrics.jsonl", "accuracy.npy", "loss.npy", "accuracy.txt", "done"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    a, b = models.load(one), models.load(other)
    jax.tree.map(np.testing.assert_array_equal, (a.params, a.memory), (b.params, b.memory))
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}


def all_the_same(one: Path, other: Path) -> None:
    places = [p.parent.relative_to(one) for p in sorted(one.rglob("config.json"))]
    assert places
    for place in places:
        same(one / place, other / place)


@pytest.mark.parametrize(
    "name, kills",
    [pytest.param(k, 2, id=k) for k in ("hat", "replicas")]
    + [pytest.param(k, 20, id=f"{k}-often", marks=pytest.mark.slow) for k in KINDS],
)
def test_killed_at_random_moments(start, tmp_path, name, kills):
    """SIGKILL while it trains, evaluates and saves: it saves so often that this hits all three."""
    approach = "hat" if name == "replicas" else name
    args = [f"--config={CONFIGS}/baseline.py:{approach},digits", *TINY, *KINDS[name]]
    status, _, err = ended(start(*args, "--workdir=whole"))
    assert status == 0, err
    chance, done = random.Random(name), 0
    while done < kills:
        process = start(*args, "--workdir=cut")
        lines = until(process, "epoch ")
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        status, out, _ = ended(process)
        assert "Traceback" not in lines + out
        if status == 0:  # it was quicker: from the start again
            all_the_same(tmp_path / "whole", tmp_path / "cut")
            shutil.rmtree(tmp_path / "cut")
        done += status == -signal.SIGKILL
    status, out, err = ended(start(*args, "--workdir=cut"))
    assert status == 0, err
    all_the_same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop(start, tmp_path, number):
    args = ["--config.network.widths=(20,20)", "--config.tasks.count=2", "--config.epochs=60"]
    args += ["--config.lr_patience=60"]
    assert ended(start(*args, "--workdir=whole"))[0] == 0
    process = start(*args, "--workdir=cut")
    until(process, "task 2/2  epoch 2/")
    process.send_signal(number)
    status, _, err = ended(process)
    assert status == 75, err
    assert "stopping after this epoch" in err and "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: stopped after task 2, epoch ") and "the same command" in last
    status, out, _ = ended(start(*args, "--workdir=cut"))
    assert status == 0 and f"going on after {last.split('after ')[1].split(':')[0]}" in out
    same(tmp_path / "whole", tmp_path / "cut")
    if number == signal.SIGTERM:
        return
    # Finished: it shows the results and does nothing, whatever says how often to save.
    status, out, _ = ended(start(*args, "--workdir=cut", "--config.checkpoint.minutes=1"))
    assert status == 0 and "finished before" in out and "epoch" not in out
    status, _, err = ended(start(*args, "--workdir=cut", "--config.lr=0.1", "--config.batch=16"))
    assert status == 2 and "config.batch: 32, now 16; config.lr: 0.05, now 0.1" in err
    assert "--overwrite" in err


@pytest.mark.slow
def test_two_processes_stop_and_go_on(start, tmp_path):
    """One of two hosts is told to stop: both do; what they save is the same as on one host."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    args = ["--config.network.widths=(20,20)", "--config.tasks.count=2", "--config.epochs=30"]
    args += ["--config.lr_patience=30", "--config.seeds=3", "--distributed", "--processes=2"]

    def both(where: str) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        more = [*args, f"--workdir={where}", f"--coordinator=127.0.0.1:{port}"]
        return [start(*more, f"--process={i}", env=env) for i in range(2)]

    assert [ended(p)[0] for p in both("whole")] == [0, 0]
    first, second = both("cut")
    until(first, "task 2/2  epoch 2/")
    second.send_signal(signal.SIGTERM)
    assert [ended(p)[0] for p in (first, second)] == [75, 75]
    hosts = [ended(p) for p in both("cut")]
    assert [status for status, _, _ in hosts] == [0, 0], hosts
    assert "going on after task 2, epoch " in hosts[0][1] and "going on" not in hosts[1][1]
    all_the_same(tmp_path / "whole", tmp_path / "cut")


def test_a_second_process_is_refused(start, tmp_path):
    first = start("--workdir=w", "--config.epochs=300")
    until(first, "epoch 1/")
    status, _, err = ended(start("--workdir=w", "--config.epochs=300"))
    assert status == 2 and "another process trains in the workdir w" in err
    first.kill()  # and with it its lock
    first.communicate()
    second = start("--workdir=w", "--config.epochs=300")
    until(second, "epoch ")
    second.send_signal(signal.SIGTERM)
    assert ended(second)[0] == 75


def small(**changes) -> config.ConfigDict:
    c = config.make("digits", "hat")
    c.network.widths, c.tasks.count, c.data.examples = (12, 12), 3, 300
    c.epochs, c.checkpoint.epochs = 4, 1
    c.update(changes)
    return c


class Cut(BaseException):
    """Like a kill, it is nothing that anybody catches."""


@pytest.fixture
def cut(monkeypatch):
    """Trains a configuration in a workdir, and breaks off once it has saved a position."""

    def to(c, where: Path, at: Position) -> None:
        save = checkpoints.save

        def break_off(place, now, *rest):
            save(place, now, *rest)
            if now == at:
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "save", break_off)
            with pytest.raises(Cut):
                run.run(c, where)

    return to


def damages():
    def truncate(folder: Path) -> None:
        file = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        file.write_bytes(file.read_bytes()[:-10])

    def flip(folder: Path) -> None:
        file = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content)

    def lose(folder: Path) -> None:
        next((folder / "state").rglob("manifest.ocdbt")).unlink()

    def no_sums(folder: Path) -> None:
        (folder / sums.NAME).unlink()

    return [truncate, flip, lose, no_sums]


@pytest.mark.parametrize("damage", damages(), ids=lambda f: f.__name__)
def test_a_damaged_checkpoint(cut, tmp_path, capsys, damage):
    run.run(small(), tmp_path / "whole")
    cut(small(), tmp_path / "cut", Position(1, 2))
    damage(checkpoints.place(tmp_path / "cut", Position(1, 2)))
    capsys.readouterr()
    run.run(small(), tmp_path / "cut")
    out = capsys.readouterr().out
    assert "0001-00002 is damaged: going back" in out and "going on after task 2, epoch 1" in out
    same(tmp_path / "whole", tmp_path / "cut")


def test_all_checkpoints_damaged(cut, tmp_path, capsys):
    run.run(small(), tmp_path / "whole")
    cut(small(), tmp_path / "cut", Position(1, 2))
    there = checkpoints.positions(tmp_path / "cut")
    assert there[:2] == [Position(1, 2), Position(1, 1)]
    for at in there:
        (checkpoints.place(tmp_path / "cut", at) / "about.json").write_text("{}")
    run.run(small(), tmp_path / "cut")
    out = capsys.readouterr().out
    assert out.count("is damaged") == len(there)
    assert "no whole checkpoint is left: beginning anew" in out
    same(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    "file, content", [("about.json", "[1]"), ("about.json", "[" * 99999), ("accuracy.npy", "x")]
)
def test_a_checkpoint_of_others(cut, tmp_path, file, content):
    """Its sums are right, but it is not what hatjax writes."""
    cut(small(), tmp_path / "w", Position(1, 0))
    folder = checkpoints.place(tmp_path / "w", Position(1, 0))
    (folder / file).write_text(content)
    sums.write(folder)
    with pytest.raises(InputError, match="0001-00000.*--overwrite"):
        run.run(small(), tmp_path / "w")
    run.run(small(), tmp_path / "w", overwrite=True)


def test_other_images(cut, tmp_path):
    from hatjax.data import Raw, npz

    rng = np.random.default_rng(0)
    y = np.arange(80) % 4
    x = rng.integers(0, 256, (80, 6, 6), np.uint8)
    npz.write(tmp_path / "mine.npz", Raw(x, y, x[:20], y[:20]))
    c = small()
    c.data.root, c.data.sets, c.data.examples = str(tmp_path), ("mine",), 0
    cut(c, tmp_path / "w", Position(1, 2))
    before = sorted((tmp_path / "w").rglob("*"))
    x[3, 2, 2] += 1
    npz.write(tmp_path / "mine.npz", Raw(x, y, x[:20], y[:20]))
    with pytest.raises(InputError, match="images or labels of mine permuted 0.*--overwrite"):
        run.run(c, tmp_path / "w")
    assert sorted((tmp_path / "w").rglob("*")) == before
    # The same images in another place are the same.
    x[3, 2, 2] -= 1
    (tmp_path / "moved").mkdir()
    npz.write(tmp_path / "moved" / "mine.npz", Raw(x, y, x[:20], y[:20]))
    c.data.root = str(tmp_path / "moved")
    run.run(c, tmp_path / "w")
    assert (tmp_path / "w" / "done").exists()


def seeds(folder: Path, count: int = 2, **changes) -> dict[Path, config.ConfigDict]:
    runs = plans.replicas(small(seeds=count, **changes))
    return {folder / name: own for name, own in runs.items()}


def break_off(monkeypatch, runs: dict, saves: int) -> None:
    """Train until so many checkpoints are saved."""
    save, count = checkpoints.save, []

    def counted(*args):
        save(*args)
        count.append(args)
        if len(count) == saves:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", counted)
        with pytest.raises(Cut):
            run.run_all(runs)


@pytest.mark.parametrize("saves, back", [(2, None), (3 * 5 + 2, Position(1, 1))])
def test_begun_together_goes_on_together(tmp_path, capsys, monkeypatch, saves, back):
    """Cut off when two of three have saved a position; then a fourth joins."""
    whole, cut = seeds(tmp_path / "whole", 3), seeds(tmp_path / "cut", 3)
    run.run_all(whole)
    break_off(monkeypatch, cut, saves)
    at = [(checkpoints.positions(where) or [None])[0] for where in cut]
    assert at[2] == back and at[0] == at[1] == (Position(1, 2) if back else Position(0, 1))
    capsys.readouterr()
    run.run_all(seeds(tmp_path / "cut", 4))
    out = capsys.readouterr().out
    assert (f"going on after {back}" in out) == bool(back) and "mean of 3 of 3 runs" in out
    for one, other in zip(whole, cut, strict=True):
        same(one, other)
    assert (tmp_path / "cut" / "seed3" / "done").exists()


def test_one_of_a_group_is_gone(tmp_path, capsys, monkeypatch):
    """It begins anew, and the other loses nothing."""
    runs = seeds(tmp_path)
    break_off(monkeypatch, runs, 2 * 9)
    one, other = runs
    rows = results.read_rows(one / "metrics.jsonl")
    shutil.rmtree(other)
    capsys.readouterr()
    run.run_all(runs)
    out = capsys.readouterr().out
    assert out.count("going on after ") == 1 and "going on after task 3, epoch 1" in out
    assert results.read_rows(one / "metrics.jsonl")[: len(rows)] == rows
    assert (one / "done").exists() and (other / "done").exists()


@pytest.mark.parametrize("lost", [False, True])
def test_a_group_without_a_common_position(tmp_path, capsys, monkeypatch, lost):
    """Each goes on from its own; those that diverged do when all have."""
    runs = seeds(tmp_path)
    break_off(monkeypatch, runs, 2 * 9)
    one, other = runs
    here, before, earliest = Position(2, 1), Position(2, 0), Position(1, 3)
    assert checkpoints.positions(one) == checkpoints.positions(other) == [here, before, earliest]
    for where, at in ((one, before), (one, earliest), (other, here)):
        shutil.rmtree(checkpoints.place(where, at))
    for where in runs if lost else ():
        (where / "diverged").write_text("as it did")
    rows = {where: results.read_rows(where / "metrics.jsonl") for where in runs}
    capsys.readouterr()
    run.run_all(runs)
    out = capsys.readouterr().out
    assert "2 runs of one program stand at 2 different places and go on apart" in out
    assert "going on after task 3, epoch 1\n" in out and "going on after task 2\n" in out
    for where, then in rows.items():
        assert results.read_rows(where / "metrics.jsonl")[: 2 * 4] == then[: 2 * 4]
        assert (where / "done").exists() and not (where / "diverged").exists()


def test_killed_again_while_it_saves(tmp_path, capsys, monkeypatch):
    """What is newer than the position gone back to does not push that one out."""
    whole, runs = seeds(tmp_path / "whole"), seeds(tmp_path / "cut")
    run.run_all(whole)
    break_off(monkeypatch, runs, 2 * 7 - 1)  # the first of two has saved
    for _ in range(3):
        one, other = (checkpoints.positions(where)[0] for where in runs)
        assert one > other
        capsys.readouterr()
        break_off(monkeypatch, runs, 1)
        assert f"going on after {other}" in capsys.readouterr().out
    run.run_all(runs)
    for a, b in zip(whole, runs, strict=True):
        same(a, b)


def test_overwrite_goes_on_from_nothing(cut, tmp_path):
    """Not even from checkpoints that are a link to another disk."""
    where, scratch = tmp_path / "w", tmp_path / "scratch"
    where.mkdir()
    scratch.mkdir()
    (where / "config.json").write_text(config.to_json(small()))
    (where / "checkpoints").symlink_to(scratch)
    cut(small(), where, Position(1, 0))
    assert list(scratch.iterdir())
    run.run(small(lr=1e-4), where, overwrite=True)
    run.run(small(lr=1e-4), tmp_path / "whole")
    assert (where / "metrics.jsonl").read_bytes() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_bytes()
    assert not list(scratch.iterdir())


def test_a_checkpoint_of_another_configuration(cut, tmp_path):
    cut(small(), tmp_path / "w", Position(1, 0))
    (tmp_path / "w" / "config.json").write_text(config.to_json(small(lr=1e-4)))
    with pytest.raises(InputError, match="0001-00000 is of another conf.*config.lr: 0.05, now 0.0"):
        run.run(small(lr=1e-4), tmp_path / "w")


def test_refused_before_anything_is_overwritten(tmp_path):
    runs = seeds(tmp_path)
    run.run_all(runs)
    one, other = runs
    before = (one / "metrics.jsonl").read_bytes()
    with files.locked(other), pytest.raises(InputError, match="another process"):
        run.run_all(runs, overwrite=True)
    assert (one / "done").exists() and (one / "metrics.jsonl").read_bytes() == before


def test_finished_in_the_meantime(tmp_path, monkeypatch):
    """As by another process, while this one was reading its images."""
    runs = seeds(tmp_path)
    accs = run.run_all(runs)
    (checkpoints.place(next(iter(runs)), Position(1, 0))).mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(run, "together", None)
        again = run.run_all(runs)
    np.testing.assert_array_equal(accs, again)
    assert all((where / "done").exists() for where in runs)


def test_a_kill_while_results_are_published(cut, tmp_path, monkeypatch):
    """The matrices never tell of a task that the model has not learned."""
    cut(small(), tmp_path / "w", Position(2, 0))
    position = checkpoints.positions(tmp_path / "w")[0]
    assert position == Position(2, 0)
    assert models.load(tmp_path / "w").learned == (True, False, False)
    (tmp_path / "w" / "model").rename(tmp_path / "w" / ".model.old")
    assert models.load(tmp_path / "w").learned == (True, False, False)
    (tmp_path / "w" / ".config.json.part").write_text("")
    run.run(small(), tmp_path / "w")
    run.run(small(), tmp_path / "whole")
    (tmp_path / "w" / ".config.json.part").unlink(missing_ok=True)
    same(tmp_path / "whole", tmp_path / "w")


def test_large_positions(tmp_path):
    at = Position(12345, 1234567)
    checkpoints.place(tmp_path, at).mkdir(parents=True)
    assert checkpoints.positions(tmp_path) == [at]


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_told_to_stop_before_there_is_anything_to_save(start, seconds):
    """While it imports JAX and compiles: from the moment that the process catches SIGTERM."""
    process = start("--workdir=w", "--config.epochs=3000")
    caught = re.compile(r"^SigCgt:\s*(\w+)$", re.MULTILINE)
    kernel = Path(f"/proc/{process.pid}/status")
    while not int(caught.search(kernel.read_text())[1], 16) >> (signal.SIGTERM - 1) & 1:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    status, out, err = ended(process)
    assert status == 75 and "Traceback" not in err and "error: stopped" in err, (out, err)


def test_told_twice_at_once(start, tmp_path):
    """By a terminal and by a shell that passes it on, and nobody reads the output any more."""
    process = start("--workdir=w", "--config.epochs=3000")
    until(process, "epoch 2/")
    process.stdout.close()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    with process.stderr:
        err = process.stderr.read()
    assert process.wait(timeout=60) == 75 and "Traceback" not in err
    assert "(without --overwrite) goes on from there" in err
    assert checkpoints.positions(tmp_path / "w")


def test_told_to_stop_in_the_last_epoch_of_a_run(tmp_path):
    """The next does not begin."""
    stopping, runs = stop.Stopping(), seeds(tmp_path, checkpoint=dict(epochs=0, minutes=0.0))
    for c in runs.values():
        c.tasks.count, c.epochs = 1, 1
    save = results.save_copy

    def asked(*args):
        save(*args)
        assert stopping.hear()[0].startswith("stopping after this epoch")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "save_copy", asked)
        with pytest.raises(Interrupted, match="between two runs"):
            run.run_all(runs, at_once=1, stopping=stopping)
    one, other = runs
    assert (one / "done").exists() and not (other / "metrics.jsonl").exists()
    with pytest.raises(Interrupted, match="between two runs"):
        study.execute([study.Run("a", small(), tmp_path / "a")], stopping)


def test_fit_goes_on_and_is_done_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(size=(60, 5)) + y[:, None]
    sets = [(x, y, x[:12], y[:12]), (-x, y, -x[:12], y[:12])]
    how = dict(epochs=3, batch=8, network={"widths": (8,)}, quiet=True)
    whole = hatjax.fit(sets, workdir=tmp_path / "whole", **how)
    save = checkpoints.save

    def cut(place, at, *rest):
        save(place, at, *rest)
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", cut)
        with pytest.raises(Cut):
            hatjax.fit(sets, workdir=tmp_path / "cut", **how)
    others = [(x, 2 - y, x[:12], y[:12]), sets[1]]
    with pytest.raises(InputError, match="labels of task 0 are not those"):
        hatjax.fit(others, workdir=tmp_path / "cut", **how)
    rest = hatjax.fit(sets, workdir=tmp_path / "cut", **how)
    np.testing.assert_array_equal(whole.accuracy, rest.accuracy)
    same(tmp_path / "whole", tmp_path / "cut")
    # What is finished is not learned again, and not overwritten by others.
    with monkeypatch.context() as patch:
        patch.setattr(run, "together", None)
        np.testing.assert_array_equal(
            hatjax.fit(sets, workdir=tmp_path / "cut", **how).accuracy, whole.accuracy
        )
    with pytest.raises(InputError, match="labels of task 0 are not those"):
        hatjax.fit(others, workdir=tmp_path / "cut", **how)
    hatjax.fit(others, workdir=tmp_path / "cut", overwrite=True, **how)


@pytest.mark.slow
def test_what_checkpoints_cost(tmp_path, monkeypatch):
    """The share of the default run that is spent on them: at most 5 %."""
    import orbax.checkpoint  # noqa: F401  which the model's saving needs in any case

    save, spent = course.save, []

    def timed(*args):
        began = time.perf_counter()
        save(*args)
        spent.append(time.perf_counter() - began)

    monkeypatch.setattr(course, "save", timed)
    began = time.perf_counter()
    run.run(config.make("digits", "hat"), tmp_path / "w")
    whole = time.perf_counter() - began
    share = sum(spent) / whole
    print(f"\n{len(spent)} checkpoints, {sum(spent):.2f} s of {whole:.1f} s: {share:.1%}")
    assert share < 0.05


def test_the_clock():
    clock = checkpoints.Clock(3, 0)
    assert [clock.due(i) for i in range(1, 7)] == [False, False, True, False, False, True]
    clock = checkpoints.Clock(0, 1)
    assert not clock.due(1)
    clock.last -= 61
    assert clock.due(1)
    clock.reset()
    assert not clock.due(1)


def test_checkpoints_can_be_checked_by_hand(cut, tmp_path):
    cut(small(), tmp_path / "w", Position(1, 0))
    folder = checkpoints.place(tmp_path / "w", Position(1, 0))
    subprocess.run(["sha256sum", "--check", "--quiet", sums.NAME], cwd=folder, check=True)
    about = json.loads((folder / "about.json").read_text())
    assert about["group"] == ["w"] and about["versions"]["jax"] == jax.__version__
