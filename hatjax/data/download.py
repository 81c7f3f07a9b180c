"""Downloads that are verified, resumed where they broke off, and shown while they last."""

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from hatjax.errors import InputError

CHUNK = 1 << 16
PATIENCE = 60  # seconds that a connection may stand still


def fetch(url: str, path: Path, blob: str) -> None:
    """Make sure that `path` is the file which git knows as `blob`, downloading it from `url`.

    A file that is there is verified and kept. What arrives is kept in PATH.part until it is whole,
    so that a broken download goes on where it stopped. Raises ConnectionError if the download
    fails, and InputError for a file with another checksum.
    """
    if path.exists():
        if (found := blob_id(path)) != blob:
            raise InputError(
                f"{path}: wrong checksum (git blob {found}, expected {blob}): the file is damaged "
                "or of another version; remove it to download it again"
            )
        return
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    _receive(url, part)
    if resumed and blob_id(part) != blob:  # its beginning was damaged, or of another version
        part.unlink()
        _receive(url, part)
    if (found := blob_id(part)) != blob:
        part.unlink()
        raise InputError(
            f"{url}: wrong checksum (git blob {found}, expected {blob}): not the published file; "
            f"put that to {path} yourself"
        )
    os.replace(part, path)


def blob_id(path: Path) -> str:
    """git's name of a file: the SHA-1 of "blob SIZE\\0" and its content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _receive(url: str, part: Path) -> None:
    """Append what `part` lacks of the file at `url`; begin anew where the server cannot resume."""
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "hatjax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            have = have if reply.status == 206 and _begins_at(reply, have) else 0
            length = reply.headers.get("Content-Length")
            total = have + int(length) if length else None
            with open(part, "ab" if have else "wb") as file, _bar(part.stem, have, total) as bar:
                while chunk := reply.read(CHUNK):
                    file.write(chunk)
                    bar(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is here: whole, or wrong
            return
        raise ConnectionError(f"download failed: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"download failed: {reason}; a repeated run resumes it") from error
    size = part.stat().st_size
    if total is not None and size < total:
        raise ConnectionError(
            f"download broke off after {size} of {total} bytes; a repeated run resumes it"
        )


def _begins_at(reply: http.client.HTTPResponse, place: int) -> bool:
    found = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == place


@contextlib.contextmanager
def _bar(name: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, as long as the context lasts; gives what advances it by n bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"downloading {name}", completed=done, total=total)
        yield lambda n: progress.advance(task, n)
