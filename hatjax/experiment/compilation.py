"""JAX's persistent compilation cache, so that the next start need not compile."""

import logging
import math
import os
import tempfile
from pathlib import Path

import jax

from hatjax.data import cache
from hatjax.errors import InputError

KEEP = "jax_persistent_cache_min_compile_time_secs"  # programs are kept that took so long


def use_cache() -> None:
    """Keep compiled programs in the user's cache folder.

    If it cannot be written, warn once: the programs in it are still read, and without such a folder
    every start compiles.
    """
    on = "jax_enable_compilation_cache"
    if not jax.config.values[on] or jax.config.values[KEEP] == math.inf:
        return
    jax.config.update(KEEP, 0.2)
    # By default XLA has a cache of its own in the folder, whose path is then a part of what a
    # program is found by: a folder that is mounted elsewhere would not be of use.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    where = jax.config.values["jax_compilation_cache_dir"] or ""
    try:
        where = where or str(cache() / "xla")
        if "://" not in where:  # otherwise it is remote storage
            Path(where).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=where):
                pass
    except (InputError, OSError) as error:
        if not os.path.isdir(where) or not os.access(where, os.R_OK | os.X_OK):
            logging.warning("compiled programs are not kept, so every start compiles: %s", error)
            jax.config.update(on, False)
            return
        logging.warning(
            "compiled programs are read from %s, and new ones not kept: %s", where, error
        )
        jax.config.update(KEEP, math.inf)
        jax.config.update("jax_compilation_cache_max_size", -1)  # a bound writes at every read
    jax.config.update("jax_compilation_cache_dir", where)
