"""Commands in another folder, with hatjax from here or as an installed wheel lays it out."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# For examples, which compute longer than they compile (conftest.py).
OPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def python(folder: Path, *args: str, path: Path = REPOSITORY) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": str(path), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
