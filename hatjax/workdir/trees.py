"""Pytrees of arrays on disk, saved with orbax."""

import json
import logging
import os
import tempfile
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import keystr

from hatjax.types import Tree
from hatjax.workdir import sums


def save(path: Path, tree: Tree) -> None:
    """Save a pytree of arrays as the folder `path`, with the sums of its files."""
    tree = jax.device_get(tree)  # arrays of a device are only read back where there are as many
    room(path.parent, sum(np.asarray(x).nbytes for x in jax.tree.leaves(tree)))
    with _checkpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree)
    sums.write(path)


def room(folder: Path, size: int) -> None:
    """OSError if the disk has no room for so many bytes in a folder.

    orbax would find out in several threads, which print a traceback each.
    """
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size + 2**16)


def load(path: Path, shapes: Tree) -> Tree:
    """The pytree of NumPy arrays in the folder `path`; `shapes` are what jax.eval_shape gives.

    Raises ValueError if a file is not as it was saved, or the arrays have other names or shapes.
    """
    if bad := sums.altered(path):
        raise ValueError(f"{path / bad[0]} is damaged or missing")
    _check(path, shapes)
    with _checkpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), shapes)


def _check(path: Path, shapes: Tree) -> None:
    """Read what somebody saved who knows the sums: orbax prints tracebacks where reads fail."""
    import tensorstore  # orbax's own store

    base = {"driver": "file", "path": f"{path.absolute()}/"}
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
    found = {key.decode(): store.read(key).result().value for key in store.list().result()}
    for names, leaf in jax.tree.leaves_with_path(shapes):
        name = keystr(names, simple=True, separator=".")
        if f"{name}/.zarray" not in found:
            raise ValueError(f"there is no {name} in {path}")
        if (shape := json.loads(found[f"{name}/.zarray"])["shape"]) != list(leaf.shape):
            raise ValueError(f"{name} in {path} is of shape {shape}, not {list(leaf.shape)}")


def _checkpointer():
    import orbax.checkpoint  # here, since it takes a second to import

    logging.getLogger("absl").setLevel(logging.WARNING)  # it reports every save
    # Of several processes only the one that calls takes part: it has all that is saved on its host.
    me = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return orbax.checkpoint.StandardCheckpointer(multiprocessing_options=alone)
