"""What a run tells while it goes on: TensorBoard's events, and warnings of scarce capacity."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hatjax import config
from hatjax.errors import InputError
from hatjax.experiment import run, tensorboard
from hatjax.workdir import results

TINY = ["--config.network.widths=(8,6)", "--config.tasks.count=3", "--config.epochs=2"]


def command(folder: Path, *args: str, **more: str) -> subprocess.CompletedProcess:
    env = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")} | more
    return subprocess.run(
        [sys.executable, "-m", "hatjax.main", *args, *TINY],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def events(where: Path) -> dict[str, list[tuple[int, object]]]:
    """Tag -> (step, a number or the histogram) of WORKDIR/tensorboard, as TensorBoard reads it."""
    from tensorboardX.proto import event_pb2

    data = b"".join(path.read_bytes() for path in sorted((where / "tensorboard").iterdir()))
    found = {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        if event.session_log.status == event_pb2.SessionLog.START:
            for seen in found.values():
                seen[:] = [(step, value) for step, value in seen if step < event.step]
        for v in event.summary.value:
            histogram = v.HasField("histo")
            found.setdefault(v.tag, []).append(
                (event.step, v.histo if histogram else v.simple_value)
            )
        data = data[16 + length :]
    return found


def test_events_of_a_run(tmp_path):
    done = command(tmp_path, "--tensorboard", "--workdir=w", "--config.approach.c=0.0")
    assert done.returncode == 0, done.stderr
    found = events(tmp_path / "w")
    for tag in ("loss/train", "loss/valid", "accuracy/train", "accuracy/valid", "schedule/lr",
                "capacity/weights_kept_by_the_task", "capacity/units_used_fc2"):  # fmt: skip
        assert [step for step, _ in found[tag]] == [1, 2, 3, 4, 5, 6], tag
    assert [v for _, v in found["schedule/task"]] == [1, 1, 2, 2, 3, 3]
    acc = np.load(tmp_path / "w" / "accuracy.npy")
    (first,) = [tag for tag in found if tag.startswith("test_accuracy/digits_permuted")][:1]
    got = [v for _, v in found[first]]
    np.testing.assert_allclose(got, acc[:, 0], rtol=1e-6)
    np.testing.assert_allclose([v for _, v in found["test_accuracy/average"]][-1], acc[2].mean())
    for tag, units in (("gates/fc1", 8), ("gates_so_far/fc2", 6)):
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        assert all(h.num == units and 0 <= h.min <= h.max <= 1 for _, h in found[tag])
    # A run that begins anew begins its events anew; without the flag there are none.
    again = command(tmp_path, "--workdir=w", "--overwrite")
    assert again.returncode == 0 and not (tmp_path / "w" / "tensorboard").exists()


def test_events_of_a_run_with_a_pause(tmp_path, monkeypatch):
    """It is cut off after five epochs, the last of which no checkpoint knows."""
    c = config.make("digits", "hat")
    c.network.widths, c.tasks.count, c.epochs, c.checkpoint.epochs = (8, 6), 2, 3, 1
    append, count = results.append, []

    def cut(where, row):
        append(where, row)
        count.append(row)
        if len(count) == 5:
            board.epoch(row)
            raise KeyboardInterrupt

    board, make = None, tensorboard.Board

    def remember(*args):
        nonlocal board
        board = make(*args)
        return board

    with monkeypatch.context() as patch:
        patch.setattr(results, "append", cut)
        patch.setattr(tensorboard, "Board", remember)
        with pytest.raises(KeyboardInterrupt):
            run.run(c, tmp_path / "w", board=True)
    assert len(events(tmp_path / "w")["loss/train"]) == 5
    run.run(c, tmp_path / "w", board=True)
    found = events(tmp_path / "w")
    assert [step for step, _ in found["loss/train"]] == [1, 2, 3, 4, 5, 6]
    assert [v for _, v in found["schedule/task"]] == [1, 1, 1, 2, 2, 2]


def test_events_of_replicas_without_gates(tmp_path):
    sgd = f"--config={Path(__file__).parents[1]}/configs/baseline.py:sgd,digits"
    done = command(tmp_path, sgd, "--tensorboard", "--config.seeds=2", "--workdir=w")
    assert done.returncode == 0, done.stderr
    for seed in range(2):
        found = events(tmp_path / "w" / f"seed{seed}")
        assert len(found["loss/train"]) == 6 and not [t for t in found if t.startswith("gates")]


def test_without_tensorboardx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'hatjax\[tensorboard\]'"):
        run.run(config.make("digits", "hat"), tmp_path / "w", board=True)
    assert not (tmp_path / "w").exists()


def test_scarce_capacity_is_told(tmp_path):
    # Gates that start open and hardly move, unless units are dear.
    greedy = ["--config.approach.gate_init=uniform", "--config.lr=0.001"]
    done = command(tmp_path, *greedy, "--config.grid=approach.c=0,1000", "--workdir=w")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("warning")]
    few = re.search(r"before task 2/3 in 1 of 2 runs \(fc1 0\.\d%, fc2 0\.\d%\)", lines[0])
    assert len(lines) == 2 and few, lines
    assert "--config.network.widths" in lines[0] and "--config.approach.c" in lines[0]
