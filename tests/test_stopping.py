"""A command that is killed or told to stop goes on, repeated, to the same bits."""

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

import numpy as np
import pytest

import hatjax
from hatjax.experiment import checkpoint, stop
from hatjax.workdir import results
from tests.same import all_the_same, same

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


@pytest.mark.parametrize(
    "name, kills",
    [pytest.param("replicas", 2, id="replicas")]
    + [pytest.param("hat", 2, id="hat", marks=pytest.mark.slow)]
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
    if number == signal.SIGINT:
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
    if number == signal.SIGTERM:
        return
    same(tmp_path / "whole", tmp_path / "cut")
    # Finished: it shows the results and does nothing, whatever says how often to save.
    status, out, _ = ended(start(*args, "--workdir=cut", "--config.checkpoint.minutes=1"))
    assert status == 0 and "finished before" in out and "epoch" not in out
    status, _, err = ended(start(*args, "--workdir=cut", "--config.lr=0.1", "--config.batch=16"))
    assert status == 2 and "config.batch: 32, now 16; config.lr: 0.05, now 0.1" in err
    assert "--overwrite" in err


@pytest.mark.slow
def test_two_processes_stop_and_go_on(start, tmp_path):
    """One of two hosts is told to stop: both do; what they save is the same as on one host."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    env = os.environ | {"XLA_FLAGS": flags}
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
    assert checkpoint.numbers(tmp_path / "w" / "checkpoints")


def test_the_terminal_is_closed(start, tmp_path):
    """It saves, though nothing can be written any more; under nohup it goes on."""
    ours, theirs = os.openpty()
    code = (
        "import fcntl, runpy, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL);"  # these tests may run under nohup
        "runpy.run_module('hatjax.main', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--workdir=w", "--config.epochs=3000"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"epoch 2/" not in seen:
        seen += os.read(ours, 10**4)
    os.close(ours)
    try:
        assert process.wait(timeout=60) == 75
    finally:
        process.kill()
        process.wait()
    folder = tmp_path / "w" / "checkpoints"
    about = checkpoint.read_about(folder, checkpoint.numbers(folder)[0])
    assert (about["task"], about["epoch"]) >= (0, 2)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop.requested():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def plain_python():
    """SIGINT as in a script and in a notebook, whatever the tests' own process does with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_in_a_notebook_saves(tmp_path, monkeypatch, plain_python, capsys):
    y = np.arange(40) % 2
    x = np.eye(2, dtype=np.float32)[y]
    sets = [(x, y, x, y)] * 2
    how = dict(epochs=4, batch=16, network={"widths": (4,)}, quiet=True)
    hatjax.fit(sets, workdir=tmp_path / "whole", **how)
    append = results.append

    def interrupt(where, row):
        append(where, row)
        if (row["task"], row["epoch"]) == (1, 1):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(results, "append", interrupt)
        with pytest.raises(KeyboardInterrupt, match="stopped after task 2, epoch 2: the same call"):
            hatjax.fit(sets, workdir=tmp_path / "cut", **how)
        assert "stopping after this epoch" in capsys.readouterr().err
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt, match="^$"):  # nothing to save: at once
            hatjax.fit(sets, **how)
    hatjax.fit(sets, workdir=tmp_path / "cut", **how)
    same(tmp_path / "whole", tmp_path / "cut")


def test_twice_interrupted_ends_at_once(plain_python, monkeypatch):
    monkeypatch.setattr(stop, "REPEAT", 0.0)
    with stop.interrupts() as stopping:
        with pytest.raises(KeyboardInterrupt):  # not in training
            signal.raise_signal(signal.SIGINT)
        with stopping.training():
            signal.raise_signal(signal.SIGINT)
            assert stopping()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, mine := lambda number, frame: None)
    with stop.interrupts():  # the program's own handler stays
        assert signal.getsignal(signal.SIGINT) is mine
