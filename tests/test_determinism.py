"""The same configuration on the same machine: the same bits, whatever is compiled or kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.same import same

CONFIGS = Path(__file__).parents[1] / "configs"


def command(folder: Path, *args: str, cache: str, seed: str) -> None:
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / cache), "PYTHONHASHSEED": seed}
    tiny = ["--config.tasks.count=2", "--config.epochs=2", "--config.data.examples=400"]
    done = subprocess.run(
        [sys.executable, "-m", "hatjax.main", *args, *tiny],
        cwd=folder, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "approach", ["hat", pytest.param("imm_mode", marks=pytest.mark.slow)]
)
def test_the_same_bits_twice(tmp_path, approach):
    """Each compiled anew, and once more from the compilation cache, with other hashes of Python."""
    config = f"--config={CONFIGS}/baseline.py:{approach},digits"
    for where, cache, seed in (("one", "a", "0"), ("two", "b", "1"), ("three", "b", "random")):
        command(tmp_path, config, f"--workdir={where}", cache=cache, seed=seed)
    same(tmp_path / "one", tmp_path / "two")
    same(tmp_path / "one", tmp_path / "three")
