"""JAX's persistent compilation cache, so that the next start need not compile."""

import logging
import tempfile
from pathlib import Path

import jax

from hatjax.data import cache
from hatjax.errors import InputError


def use_cache() -> None:
    """Keep compiled programs in the user's cache folder; warn if it cannot be written."""
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    chosen = jax.config.values["jax_compilation_cache_dir"]
    try:
        where = chosen or str(cache() / "xla")
        if "://" not in where:  # otherwise it is remote storage
            Path(where).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=where):
                pass
        jax.config.update("jax_compilation_cache_dir", where)
    except (InputError, OSError) as error:
        logging.warning("compiled programs are not kept, so every start compiles: %s", error)
        jax.config.update("jax_enable_compilation_cache", False)
