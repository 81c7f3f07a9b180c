"""Strict JAX for all tests: no implicit rank promotion, and programs that compile quickly."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far longer than they compute, and with few of LLVM's optimisations that takes less
# time. With none, at level 0, XLA's reciprocal square roots on the CPU have derivatives of NaN.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # one for all processes of this session
    programs = tempfile.mkdtemp(prefix="hatjax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, programs, ignore_errors=True)

import jax
import pytest
from filelock import FileLock

jax.config.update("jax_numpy_rank_promotion", "raise")


# `-m core`: a file, or some tests of it by the beginning of their names.
CORE = (
    "test_hat.py", "test_golden.py", "test_contract.py", "test_imports.py",
    "test_past.py::test_past_is_untouched[mlp-0]",
    "test_past.py::test_the_past_is_untouched_in_the_runner[mlp",
    "test_past.py::test_the_past_is_untouched_in_the_runner[convnet",
    "test_main.py::test_a_run_and_what_it_leaves",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.nodeid.rpartition("tests/")[2].startswith(CORE):
            item.add_marker(pytest.mark.core)
    # The longest first, so that both processes have work until the end.
    items.sort(key=lambda item: "test_study" not in item.nodeid)
    for item in items:
        if item.get_closest_marker("data") and not os.environ.get("HATJAX_DATA"):
            item.add_marker(pytest.mark.skip(reason="HATJAX_DATA names no folder of image sets"))
        if item.get_closest_marker("slow") and not os.environ.get("HATJAX_SLOW"):
            item.add_marker(pytest.mark.skip(reason="HATJAX_SLOW is not set"))


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory):
    """The workdirs of tests/trained.py, made once for all processes of this session."""
    from tests import trained

    folder = Path(tempfile.gettempdir()) / os.environ["JAX_COMPILATION_CACHE_DIR"] / "trained"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            trained.make(folder)
    own = tmp_path_factory.mktemp("trained") / "runs"
    shutil.copytree(folder, own)
    return {name: own / name for name in ("mlp", "alexnet")}
