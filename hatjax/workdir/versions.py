"""With which software a run was trained: versions.json, a list with an entry for each version.

    [{"hatjax": "0.1.0", "commit": "...", "jax": "...", ..., "python": "3.11.7"}, ...]

A run that goes on with other software gets one more entry. "commit" is that of the git checkout
that hatjax is imported from, with "-dirty" if files differ from it; installed packages have none.
"""

import functools
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import hatjax
from hatjax.data import reading
from hatjax.workdir import files

FILE = "versions.json"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def now() -> dict[str, str]:
    """The entry of this process."""
    packages = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return {"hatjax": hatjax.__version__} | commit() | packages


@functools.cache
def commit(root: Path = Path(hatjax.__file__).parents[1]) -> dict[str, str]:
    """{"commit": ...} of the checkout in the folder `root`; {} if it is none, or git is missing."""
    if not (root / ".git").exists():  # not a repository of the user's, with hatjax somewhere in it
        return {}
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        said = subprocess.run(
            [*describe, "--exclude=*"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": said.stdout.strip()}


def read(where: Path) -> list[dict[str, str]]:
    """The entries of the run in a workdir; [] without the file. ValueError if it is damaged."""
    path = where / FILE
    if not path.exists():
        return []
    try:
        found = json.loads(reading.text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged") from error
    if not isinstance(found, list) or not all(
        isinstance(entry, dict) and all(isinstance(v, str) for v in entry.values())
        for entry in found
    ):
        raise ValueError(f"{path} is damaged")
    return found


def add(where: Path) -> str:
    """Add the entry of this process, if the last one differs; a note if the file was damaged."""
    try:
        entries, note = read(where), ""
    except ValueError as error:
        entries, note = [], f"{error}: it begins anew"
        files.remove(where / FILE)
    if not entries or entries[-1] != now():
        rows = ",\n".join(f" {json.dumps(entry)}" for entry in [*entries, now()])
        files.write_text(where / FILE, f"[\n{rows}\n]\n")
    return note
