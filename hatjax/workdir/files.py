"""The workdir of a run: checks, the lock, and atomic writes."""

import contextlib
import errno
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
TEMPORARY = re.compile(r"\.lock|\.[\w.]+\.(part|old)")  # the lock, and what a killed write leaves


def check(where: Path, config: ConfigDict, overwrite: bool = False) -> None:
    """Create the workdir `where` if needed, and check that a run of `config` can be saved there.

    Raises InputError if it is not writable, or holds anything but a run of the same configuration
    (with `overwrite`, of any configuration).
    """
    if os.sep == "/" and "\\" in str(where.resolve()):
        raise InputError(
            f"workdir {where} has a backslash in its path, from which TensorStore does not read "
            "back what it has saved: choose another with --workdir=DIR"
        )
    try:
        where.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        raise unwritable(where, error) from error
    there = [p.name for p in where.iterdir() if not TEMPORARY.fullmatch(p.name)]
    if (where / "plan.json").is_file() and not (where / "config.json").exists():
        raise InputError(
            f"workdir {where} holds a sweep of hatjax, each run in a folder of its own: repeat the "
            "sweep's command (--config.seeds, --config.grid), or choose another with --workdir=DIR"
        )
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
                "choose another with --workdir=DIR, or start over in it with --overwrite"
            )


def prepare(where: Path, config: ConfigDict, overwrite: bool = False) -> None:
    """Write config.json into a workdir; `overwrite` removes the results of the old run first.

    Raises InputError if that fails.
    """
    with preparing(where):
        if overwrite:
            clean(where)
        write_text(where / "config.json", configs.to_json(config))


@contextlib.contextmanager
def preparing(where: Path) -> Iterator[None]:
    """Turn an OSError in the folder `where`, before a run starts, into an InputError."""
    try:
        yield
    except OSError as error:
        raise unwritable(where, error) from error


def unwritable(where: Path, error: OSError) -> InputError:
    return InputError(
        f"workdir {where} cannot be written ({error.strerror}): choose another with --workdir=DIR"
    )


def clean(where: Path) -> None:
    """Remove the files of a run from its workdir, except config.json. Raises OSError."""
    for name in (
        "done", "diverged", "metrics.jsonl", "accuracy.npy", "loss.npy", "accuracy.txt",
        "energy.npy", "task_free.json", "tasks.npz", "versions.json", "earlier.json", "checkpoints",
        "model", ".model.part", ".model.old", "export", "tensorboard",
    ):  # fmt: skip
        remove(where / name)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists. Raises OSError.

    A symbolic link to a folder is kept, since it may lead to another disk; its content is removed.
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
    """Hold the lock of the workdir `where`, so that only this process trains there.

    The lock is released when the process ends. Raises InputError if another process holds it.
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
    """Turn any error while results are written to the workdir `where` into Unwritable."""
    try:
        yield
    except Exception as error:  # disk full, folder gone; tensorstore has its own types
        gone = "" if where.exists() else ": the folder is gone"
        raise Unwritable(
            f"workdir {where} cannot be written ({reason(error)}){gone}. What was saved there "
            "before stays; when it can be written again, the same command (without --overwrite) "
            "goes on from there"
        ) from error


def reason(error: Exception) -> str:
    """Why writing failed, in the words of the system where they are in the error's message.

    tensorstore, with which Orbax writes, has no OSError, and wraps them in all it knows.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
    return next((s for s in map(os.strerror, known) if s in str(error)), oneline(error))


def finished(where: Path, config: ConfigDict) -> bool:
    """Whether `where` holds a finished run of the same configuration."""
    if not os.path.exists(where / "done"):  # also False for an invalid path
        return False
    return not differences(read_config(where), config)


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """The fields in which two configurations differ: "config.PATH: old value, now new value"."""
    a, b = (configs.fields(configs.completed(c)) for c in (old, new))
    return [
        f"config.{k}: {a.get(k, 'absent')}, now {b.get(k, 'absent')}"
        for k in sorted((a.keys() | b.keys()) - {*configs.FREE})
        if a.get(k) != b.get(k)
    ]


def read_config(where: Path) -> ConfigDict:
    """The configuration of the run in `where`; InputError if it is missing or damaged."""
    path = where / "config.json"
    if not os.path.isfile(path):  # also False for an invalid path
        raise InputError(
            f"{where} holds no run of hatjax: there is no {path.name} in it; give a run's workdir"
        )
    try:
        return configs.completed(configs.from_json(path.read_text()))
    except (OSError, ValueError, InputError) as error:
        reason = f"{path} is damaged ({oneline(error)})"
        raise InputError(f"{reason}: remove {where} and run again") from error


@contextlib.contextmanager
def folder(where: Path, allowed: Sequence[str] = ()) -> Iterator[Path]:
    """Write the folder `where` atomically: yields a temporary folder that replaces it at the end.

    An existing folder is replaced if it has no files but those named in `allowed`. Raises
    InputError if it has others or cannot be written, and then leaves it unchanged.
    """
    where = where.absolute()
    part = where.parent / f".{where.name}.part"
    try:
        others = sorted({p.name for p in where.iterdir()} - {*allowed}) if where.exists() else []
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
    """Write a text file atomically: after a crash it is either the old one or the new one."""
    _atomically(path, lambda part: part.write_text(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    _atomically(path, lambda part: part.write_bytes(content))


def write_array(path: Path, array: np.ndarray) -> None:
    """Save an array as .npy, atomically."""

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, array, allow_pickle=False)

    _atomically(path, write)


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:  # a failed write leaves no partial file
        part.unlink(missing_ok=True)


def flush(folder: Path) -> None:
    """Flush a folder and all files below it to the disk (fsync). Raises OSError."""
    for path in (folder, *folder.rglob("*")):
        if path.is_file() or path.is_dir():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
