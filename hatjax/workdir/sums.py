"""SHA256SUMS: whether a folder of files is as it was written.

orbax keeps no checksums of the numbers themselves: a bit that flips in them changes a weight and
goes unnoticed, and where several of its reads fail, its threads print a traceback each.
"""

import hashlib
from pathlib import Path

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """Write the sums of all files in and below `folder`, as sha256sum writes and checks them."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(_digests(folder).items()))
    (folder / NAME).write_text("".join(lines))


def altered(folder: Path) -> list[str]:
    """What is not as `write` found it: the files that are missing, added or changed, or the sums.

    Only regular files are read; anything else, such as a pipe, counts as added.
    """
    if not (folder / NAME).is_file():
        return [NAME]
    try:
        lines = (folder / NAME).read_text().split("\n")[:-1]
        known = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        return [NAME]
    found = _digests(folder)
    paths = known.keys() | found.keys()
    return sorted(p for p in paths if found.get(p) is None or found[p] != known.get(p))


def _digests(folder: Path) -> dict[str, str | None]:
    """The SHA-256 of each file by its path; None for what cannot be read, or is no file."""
    paths = [p for p in folder.rglob("*") if not p.is_dir() and p != folder / NAME]
    return {str(p.relative_to(folder)): _digest(p) for p in paths}


def _digest(path: Path) -> str | None:
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
