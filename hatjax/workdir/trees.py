"""Pytrees of arrays on disk, saved with Orbax and protected by checksums.

Orbax keeps no checksums of the numbers, so a flipped bit would change a weight unnoticed. The file
SHA256SUMS holds those of all files in a folder, in the format of `sha256sum --check`.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr

from hatjax.types import Tree

SUMS = "SHA256SUMS"


def save(path: Path, tree: Tree) -> None:
    """Save a pytree of arrays as the folder `path`, with checksums. Raises OSError."""
    tree = jax.device_get(tree)  # Orbax restores an array of a device only where that device exists
    options = this_process_only()
    check_disk_space(path.parent, tree)
    with whole_or_nothing(path):
        with _orbax().StandardCheckpointer(multiprocessing_options=options) as checkpointer:
            checkpointer.save(path.resolve(), tree)
        write_sums(path)


@contextlib.contextmanager
def whole_or_nothing(path: Path) -> Iterator[None]:
    """Remove the folder `path`, and Orbax's temporary ones for it, if writing it fails.

    Meanwhile its threads print no tracebacks, since what they report is raised as well.
    """
    log, hook = logging.getLogger("absl"), sys.unraisablehook
    level = log.level
    log.setLevel(logging.CRITICAL)
    # After a failed write the others go on in threads of tensorstore, whose event loop is gone.
    sys.unraisablehook = lambda told: (
        None if str(told.exc_value) == "Event loop is closed" else hook(told)
    )
    try:
        yield
    except BaseException:
        for _ in range(3):  # until those have ended, too
            for part in (path, *path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*")):
                shutil.rmtree(part, ignore_errors=True)
            time.sleep(0.2)
        raise
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook


def load(path: Path, shapes: Tree) -> Tree:
    """Load the pytree of NumPy arrays in the folder `path`; `shapes` comes from jax.eval_shape.

    Raises ValueError if a file has changed since it was saved, or names or shapes differ.
    """
    if bad := altered(path):
        raise ValueError(f"{path / bad[0]} is damaged or missing")
    check_shapes(path, shapes)
    with _orbax().StandardCheckpointer(multiprocessing_options=this_process_only()) as checkpointer:
        return checkpointer.restore(path.resolve(), shapes)


def check_disk_space(folder: Path, tree: Tree, more: int = 0) -> None:
    """Raise OSError if the disk of `folder` has no room for a tree and `more` bytes."""
    if hasattr(os, "posix_fallocate"):
        size = more + sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree))
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size + 2**16)


def check_shapes(path: Path, shapes: Tree) -> None:
    """Raise ValueError if the tree saved in the folder `path` has other names or shapes.

    Checked before Orbax reads it, which prints a traceback for every missing array.
    """
    import tensorstore  # Orbax stores arrays with it

    base = {"driver": "file", "path": f"{path.resolve()}/"}  # which takes no ".."
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found = {key.decode(): store.read(key).result().value for key in store.list().result()}
    for names, leaf in jax.tree.leaves_with_path(shapes):
        name = keystr(names, simple=True, separator=".")
        if f"{name}/.zarray" not in found:
            raise ValueError(f"there is no {name} in {path}")
        if (shape := json.loads(found[f"{name}/.zarray"])["shape"]) != list(leaf.shape):
            raise ValueError(f"{name} in {path} is of shape {shape}, not {list(leaf.shape)}")


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of all files in and below `folder` to its file SHA256SUMS."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(_digests(folder).items()))
    (folder / SUMS).write_text("".join(lines))


def altered(folder: Path) -> list[str]:
    """The files that are missing, added or changed since `write_sums`.

    Without a readable SHA256SUMS, that file alone. Only regular files are read; anything else, such
    as a pipe, counts as added.
    """
    if not (folder / SUMS).is_file():
        return [SUMS]
    try:
        lines = (folder / SUMS).read_text().split("\n")[:-1]
        known = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        return [SUMS]
    found = _digests(folder)
    paths = known.keys() | found.keys()
    return sorted(p for p in paths if found.get(p) is None or found[p] != known.get(p))


def _digests(folder: Path) -> dict[str, str | None]:
    """The SHA-256 of each file by its path; None if it is unreadable or not a regular file."""
    paths = [p for p in folder.rglob("*") if not p.is_dir() and p != folder / SUMS]
    return {str(p.relative_to(folder)): _digest(p) for p in paths}


def _digest(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def add_checkpoint(folder: Path, number: int, keep: int, tree: Tree, about: dict) -> None:
    """Add checkpoint `number`, a tree of arrays and JSON, to `folder`; the newest `keep` stay.

    It is written whole or not at all, by Orbax's CheckpointManager. Raises OSError.
    """
    items = _orbax().args
    folder.mkdir(parents=True, exist_ok=True)
    check_disk_space(folder, tree, len(json.dumps(about)))
    what = items.Composite(state=items.StandardSave(tree), about=items.JsonSave(about))
    with whole_or_nothing(folder / str(number)):
        with _manager(folder, keep) as manager:
            manager.save(number, args=what)
        write_sums(folder / str(number))


def checkpoint_about(folder: Path, number: int) -> Any:
    """The JSON of a checkpoint. Orbax raises many kinds of errors for one that it cannot read."""
    items = _orbax().args
    with _manager(folder) as manager:
        return manager.restore(number, args=items.Composite(about=items.JsonRestore()))["about"]


def checkpoint_tree(folder: Path, number: int, shapes: Tree) -> Tree:
    """The tree of a checkpoint, as NumPy arrays; errors as `checkpoint_about`, and ValueError."""
    items = _orbax().args
    check_shapes(folder / str(number) / "state", shapes)
    with _manager(folder) as manager:
        what = items.Composite(state=items.StandardRestore(shapes))
        return manager.restore(number, args=what)["state"]


def _manager(folder: Path, keep: int | None = None):
    options = _orbax().CheckpointManagerOptions(
        max_to_keep=keep,
        create=False,
        enable_async_checkpointing=False,
        multiprocessing_options=this_process_only(),
    )
    return _orbax().CheckpointManager(folder.resolve(), options=options)


def this_process_only():
    """Orbax options for saving from this process alone, which has all arrays on its host."""
    me = jax.process_index()
    options = _orbax().options.MultiprocessingOptions
    return options(primary_host=me, active_processes={me})


def _orbax():
    import orbax.checkpoint  # imported here since it takes a second

    log = logging.getLogger("absl")  # Orbax logs every save
    log.setLevel(max(log.level, logging.WARNING))
    return orbax.checkpoint
