"""The folder of a run: who may write there, and writing so that nothing is ever half written."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from ml_collections import ConfigDict

from hatjax import config as configs
from hatjax.errors import InputError, Unwritable, oneline

LOCK = ".lock"
OURS = re.compile(r"\.lock|\.[\w.]+\.(part|old)")  # what a kill while writing leaves


def check(where: Path, config: ConfigDict, overwrite: bool = False) -> None:
    """Make sure that the folder `where` is there and can take the results of `config`.

    Raises InputError if it cannot be written, or holds something else than a run of the same
    configuration; with `overwrite` it may be any run.
    """
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        raise unwritable(where, error) from error
    there = [p.name for p in where.iterdir() if not OURS.fullmatch(p.name)]
    if there and not (where / "config.json").exists():
        raise InputError(
            f"workdir {where} holds files that are not a run of hatjax ({', '.join(there[:3])}): "
            "choose another with --workdir=DIR"
        )
    if there and not overwrite:
        differing = differences(read_config(where), config)
        if differing:
            raise InputError(
                f"workdir {where} holds a run of another configuration ({'; '.join(differing)}): "
                "choose another with --workdir=DIR, or begin anew in it with --overwrite"
            )


def prepare(where: Path, config: ConfigDict, overwrite: bool = False) -> None:
    """Write the configuration of a run into its workdir, which `overwrite` clears first.

    Raises InputError if that cannot be done.
    """
    with preparing(where):
        if overwrite:
            clean(where)
        write_text(where / "config.json", configs.to_json(config))


@contextlib.contextmanager
def preparing(where: Path) -> Iterator[None]:
    """Raises InputError for what goes wrong in the folder `where` before a run begins."""
    try:
        yield
    except OSError as error:
        raise unwritable(where, error) from error


def unwritable(where: Path, error: OSError) -> InputError:
    return InputError(
        f"workdir {where} cannot be written ({error.strerror}): choose another with --workdir=DIR"
    )


def clean(where: Path) -> None:
    """Remove what a run has left in its workdir, but its configuration. Raises OSError."""
    for name in (
        "done", "diverged", "metrics.jsonl", "accuracy.npy", "loss.npy", "accuracy.txt",
        "tasks.npz", "checkpoints", "model", ".model.part", ".model.old", "export", "tensorboard",
    ):  # fmt: skip
        remove(where / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder and what is in it, if it is there. Raises OSError.

    Of a link to a folder on another disk, the link stays.
    """
    if path.is_symlink() and path.is_dir():
        for child in path.iterdir():
            remove(child)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(where: Path) -> Iterator[None]:
    """Nobody else trains in the workdir `where` meanwhile; the lock dies with its process.

    Raises InputError if somebody does.
    """
    lock = FileLock(where / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another process trains in the workdir {where}: wait for it, stop it, or choose "
            "another workdir with --workdir=DIR"
        ) from error
    except OSError as error:
        raise unwritable(where, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Raises Unwritable for what goes wrong when results are written to the workdir `where`."""
    try:
        yield
    except Exception as error:  # the disk is full, the folder is gone; tensorstore has its own
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        else:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        gone = "" if where.exists() else ": the folder is gone"
        raise Unwritable(
            f"workdir {where} cannot be written ({reason}){gone}. What was saved there before "
            "stays; when it can be written again, the same command (without --overwrite) goes on "
            "from there"
        ) from error


def finished(where: Path, config: ConfigDict) -> bool:
    """Whether `where` holds the finished run of this very configuration."""
    if not os.path.exists(where / "done"):  # False, too, for a path that cannot be one
        return False
    return not differences(read_config(where), config)


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """The fields in which two runs differ, as "path: old value, now new value"."""
    a, b = configs.fields(old), configs.fields(new)
    return [
        f"config.{k}: {a.get(k, 'absent')}, now {b.get(k, 'absent')}"
        for k in sorted((a.keys() | b.keys()) - {*configs.FREE})
        if a.get(k) != b.get(k)
    ]


def read_config(where: Path) -> ConfigDict:
    """The configuration of the run in `where`; InputError if there is none or it is damaged."""
    path = where / "config.json"
    if not os.path.isfile(path):  # which is False, too, for a path that cannot be one
        raise InputError(
            f"{where} holds no run of hatjax: there is no {path.name} in it; give a run's workdir"
        )
    try:
        return configs.completed(configs.from_json(path.read_text()))
    except (OSError, ValueError, InputError) as error:
        reason = f"{path} is damaged ({oneline(error)})"
        raise InputError(f"{reason}: remove {where} and run again") from error


@contextlib.contextmanager
def folder(where: Path, ours: Sequence[str] = ()) -> Iterator[Path]:
    """Write the folder `where` all at once: what is put into the folder that this gives.

    A folder that holds nothing but files named in `ours` is replaced. Raises InputError if there
    are others, or it cannot be written; what was there before then stays.
    """
    where = where.absolute()
    part = where.parent / f".{where.name}.part"
    try:
        others = sorted({p.name for p in where.iterdir()} - {*ours}) if where.exists() else []
        if others:
            raise InputError(
                f"folder {where} holds other files ({', '.join(others[:3])}): choose another with "
                "--out=DIR"
            )
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(where, ignore_errors=True)
        os.replace(part, where)
    except OSError as error:
        raise InputError(
            f"folder {where} cannot be written ({error.strerror}): choose another with --out=DIR"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file all at once: after a crash there is the old one or the new one."""
    _whole(path, lambda part: part.write_text(text))


def write_array(path: Path, array: np.ndarray) -> None:
    """Save an array as .npy, all at once."""

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, array, allow_pickle=False)

    _whole(path, write)


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:  # half a file on a full disk is of no use
        part.unlink(missing_ok=True)


def flush(folder: Path) -> None:
    """Have the disk keep the files in and below a folder, lest power fail. Raises OSError."""
    for path in (folder, *folder.rglob("*")):
        if path.is_file() or path.is_dir():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
