"""A compilation cache that can only be read."""

import errno
import math
import tempfile

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from hatjax.experiment import compilation

NAMES = (
    "jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_compilation_cache_max_size",
    "jax_persistent_cache_enable_xla_caches", compilation.KEEP,
)  # fmt: skip


@pytest.fixture
def settings():
    before = {name: jax.config.values[name] for name in NAMES}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def programs(folder) -> set[str]:
    """The files in the cache after two programs, compiled anew if they are not in it."""
    compilation_cache.reset_cache()
    jax.clear_caches()
    jax.jit(lambda x: jnp.sin(x) + 0.125)(1.0).block_until_ready()
    return {p.name for p in folder.iterdir() if p.name.endswith("-cache")}


def test_a_cache_that_is_only_read(tmp_path, monkeypatch, caplog, settings):
    folder, hits = tmp_path / "hatjax" / "xla", []
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.use_cache()
    jax.config.update(compilation.KEEP, 0.0)
    kept = programs(folder)
    assert kept and not caplog.text

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    folder = (tmp_path / "hatjax").rename(tmp_path / "mounted") / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    for _ in range(2):
        compilation.use_cache()
    assert caplog.text.count("read from") == 1 and "Read-only file system" in caplog.text
    assert jax.config.values[compilation.KEEP] == math.inf
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    try:
        assert programs(folder) == kept
        jax.jit(lambda x: jnp.cos(x) + 0.25)(1.0).block_until_ready()
    finally:
        jax.monitoring.clear_event_listeners()
    assert "/jax/compilation_cache/cache_hits" in hits  # read
    assert {p.name for p in folder.iterdir() if p.name.endswith("-cache")} == kept  # not written
