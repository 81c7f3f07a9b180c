"""Strict JAX for all tests: no implicit rank promotion, and programs that compile quickly."""

import atexit
import os
import shutil
import signal
import tempfile
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version  # which pytest needs, too

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far longer than they compute. Most compile with none of LLVM's optimisations, in a
# third of the time; those of OPTIMISED, which are about bits and numbers, with few of them. XLA's
# older code generator for fusions takes less time, too.
OPTIMISED = (
    "test_contract.py", "test_golden.py", "test_past.py", "test_replicas.py", "test_hat.py",
)  # fmt: skip
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # for commands, too
QUICK = "--xla_backend_optimization_level=1"
if Version(version("jaxlib")) < Version("0.11"):  # XLA ends the process for a flag it lacks
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", QUICK)
# A folder for all processes of this session: in memory where that is large, since runs flush what
# they save to the disk, and many tests wait for nothing else.
MEMORY, NEEDED = Path("/dev/shm"), 4 * 2**30
if "HATJAX_TESTS" not in os.environ:
    roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > NEEDED
    where = MEMORY if roomy and "TMPDIR" not in os.environ else None
    os.environ["HATJAX_TESTS"] = tempfile.mkdtemp(prefix="hatjax-tests-", dir=where)
    atexit.register(shutil.rmtree, os.environ["HATJAX_TESTS"], ignore_errors=True)
    if where:  # pytest's folders of single tests, too
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", os.environ["HATJAX_TESTS"])
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.environ["HATJAX_TESTS"] + "/xla")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402
import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

LONGEST = 6000 if os.environ.get("HATJAX_SLOW") else 900  # seconds that a test may take

# `-m core`: tests by the beginning of their names.
CORE = (
    "test_hat.py", "test_imports.py::test_imports_go_one_way", "test_golden.py::test_case[hat-mlp",
    "test_golden.py::test_case[sgd-mlp", "test_golden.py::test_case[lwf-mlp-T2",
    "test_golden.py::test_s", "test_golden.py::test_t", "test_golden.py::test_v",
    "test_contract.py::test_shapes_stay", "test_contract.py::test_nothing_large",
    "test_contract.py::test_a_replica_has_the_same_numbers_in_company[hat]",
    "test_past.py::test_past_is_untouched[mlp-0]",
    "test_past.py::test_the_past_is_untouched_in_the_runner[mlp-sgd]",
    "test_past.py::test_the_past_is_untouched_in_the_runner[convnet-adamw]",
    "test_approaches.py::test_a_whole_run[hat]",
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """A test that waits for ever fails."""

    def late(*_):
        raise TimeoutError(f"the test takes more than {LONGEST} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST)
    try:
        return (yield)
    finally:
        signal.alarm(0)


@pytest.fixture(scope="module", autouse=True)
def optimisations(request):
    """Compile as said above, and keep no program of another file's tests in memory."""
    jax.config.update("jax_disable_most_optimizations", request.path.name not in OPTIMISED)
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory):
    """The workdirs of tests/trained.py, made once for all processes of this session."""
    from tests import trained

    folder = Path(os.environ["HATJAX_TESTS"]) / "trained"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            trained.make(folder)
    own = tmp_path_factory.mktemp("trained") / "runs"
    shutil.copytree(folder, own)
    return {name: own / name for name in ("mlp", "alexnet")}
