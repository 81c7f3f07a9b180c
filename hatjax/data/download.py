"""Downloads that are verified, tried again, go on where they broke off, and are shown."""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from hatjax.errors import InputError

CHUNK = 1 << 16
PATIENCE = 30.0  # seconds that a connection may stand still
PAUSES = (1.0, 4.0, 15.0)  # seconds before every further attempt
LIMIT = 1 << 29  # bytes of a file; the largest that is known has 182 MB


class Failed(ConnectionError):
    """A download that failed; `passing` where another attempt may succeed."""

    def __init__(self, reason: object, passing: bool = False):
        super().__init__(
            f"download failed: {reason}{'; a repeated run resumes it' if passing else ''}"
        )
        self.passing = passing


def blob_id(path: Path) -> str:
    """git's name of a file: the SHA-1 of "blob SIZE\\0" and its content."""
    start = b"blob %d\0" % path.stat().st_size
    return _digest(path, hashlib.sha1(start, usedforsecurity=False))


def md5(path: Path) -> str:
    """The MD5 checksum of a file."""
    return _digest(path, hashlib.md5(usedforsecurity=False))


def _digest(path: Path, digest) -> str:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(url: str, path: Path, checksum: str, digest: Callable[[Path], str] = blob_id) -> None:
    """Make sure that `path` is the file with this checksum, downloading it from `url`.

    A file that is there is verified and kept. What arrives is kept in PATH.part until it is whole,
    so that a broken download goes on where it stopped, in a further attempt (PAUSES) or another
    run. Of several processes one downloads, and the others wait. Raises Failed if the download
    fails, and InputError for a file of another checksum, or a folder that cannot be written.
    """
    if path.exists():
        if (found := digest(path)) != checksum:
            raise InputError(
                f"{path}: wrong checksum ({found}, expected {checksum}): the file is damaged or of "
                "another version; remove it to download it again"
            )
        return
    with storing(path.parent), alone(path):
        if not path.exists():  # else another process was faster
            part = path.with_name(path.name + ".part")
            part.touch()
            try:
                _complete(url, part, checksum, digest)
                os.replace(part, path)
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()


@contextlib.contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Make a folder to write in; InputError, naming it, if it or files in it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except Failed:
        raise
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}): choose another data root "
            "with --config.data.root=DIR or $HATJAX_DATA, or another cache folder with "
            "$XDG_CACHE_HOME"
        ) from error


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time, of those that ask for the same path; the others wait.

    The file of the lock, .NAME.lock, stays: whoever waits for it would else wait for another.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logging.warning("waiting for another process that downloads %s", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _complete(url: str, part: Path, checksum: str, digest: Callable[[Path], str]) -> None:
    """Download what `part` lacks until it has the checksum; Failed, with the last reason, if not.

    What will not pass is not tried again: an absent file, or a whole one of another checksum.
    """
    pauses = iter(PAUSES)
    while True:
        try:
            resumed = _receive(url, part)
        except Failed as failure:
            if digest(part) == checksum:  # more was announced than there is
                return
            pause = next(pauses, None) if failure.passing else None
            if pause is None:
                raise
            logging.warning("%s: %s; next attempt in %g s", part.stem, failure, pause)
            time.sleep(pause)
            continue
        if (found := digest(part)) == checksum:
            return
        os.truncate(part, 0)
        if not resumed:  # else its beginning was damaged, or of another version
            raise Failed(
                f"{url} has a wrong checksum ({found}, expected {checksum}): it is not the "
                "published file"
            )


def _receive(url: str, part: Path) -> bool:
    """Append what `part` lacks of the file at `url`, or write it anew: whether it was resumed.

    Raises Failed, with `part` as far as it came.
    """
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "hatjax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        reply = urllib.request.urlopen(request, timeout=PATIENCE)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing lies beyond what is here: whole, or wrong
            return True
        raise Failed(error, error.code in (408, 425, 429) or error.code >= 500) from error
    except (OSError, http.client.HTTPException) as error:
        raise _failure(error) from error
    with reply:
        if reply.headers.get_content_type() == "text/html":
            raise Failed(f"{url} is answered with a web page: is there a login page before it?")
        if reply.status == 206 and not _begins_at(reply, have):
            os.truncate(part, 0)
            raise Failed("the server sent another part of the file than asked for", passing=True)
        start = have if reply.status == 206 else 0
        total = None if reply.length is None else start + reply.length
        with open(part, "ab" if start else "wb") as file, _bar(part.stem, start, total) as bar:
            size = start
            while size <= LIMIT and (total or 0) <= LIMIT and (chunk := _read(reply)):
                file.write(chunk)
                bar(len(chunk))
                size += len(chunk)
    if max(size, total or 0) > LIMIT:
        os.truncate(part, 0)
        raise Failed(f"{url} sends more than {LIMIT >> 20} MiB: it is not the published file")
    if total is not None and size < total:
        raise Failed(f"it broke off after {size} of {total} bytes", passing=True)
    return start > 0


def _read(reply: http.client.HTTPResponse) -> bytes:
    try:
        return reply.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> Failed:
    """What went wrong with a connection. Where there never was one, none is expected soon."""
    if not isinstance(error, urllib.error.URLError):
        return Failed(str(error) or type(error).__name__, passing=True)
    refused = isinstance(error.reason, ConnectionRefusedError)
    return Failed(error.reason, isinstance(error.reason, ConnectionError) and not refused)


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
