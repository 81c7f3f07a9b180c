"""Downloads from a server of our own, which stalls, breaks off and lies; unwritable folders."""

import gzip
import http.server
import io
import logging
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from hatjax import data
from hatjax.data import download, npz, public, sources, vision, zipped
from hatjax.errors import InputError
from hatjax.experiment import compilation
from tests import raw_files as files

CONTENT = np.random.default_rng(0).bytes(300_000)
BLOB = files.blob_id(CONTENT)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`, or what `paths` has, and is as bad as the others say.

    `faults` are status codes of the first answers.
    """

    content, ranges, most, asked, faults = b"", True, None, [], []
    paths: dict[str, bytes] = {}
    kind, announced, begins, stalls, chunked = "application/zip", None, None, 0, 0
    redirects = False

    def do_GET(self):
        own = type(self)
        asked = self.headers.get("Range")
        own.asked.append(asked)
        if own.faults:
            return self.empty(own.faults.pop(0))
        if own.redirects and "moved" not in self.path:
            return self.empty(302, Location="/moved" if own.redirects == 1 else self.path)
        content = own.paths.get(self.path, own.content)
        start = int(asked[6:-1]) if asked and own.ranges else 0
        total = len(content)
        if start >= total:
            return self.empty(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", own.kind)
        if start:
            first = start if own.begins is None else own.begins
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if own.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for _ in range(own.chunked):
                    self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            except OSError:
                own.chunked = -1  # it was not taken
            return
        self.send_header("Content-Length", own.announced or str(total - start))
        self.end_headers()
        self.wfile.write(content[start:][: own.most])
        if own.stalls:
            own.stalls -= 1
            self.wfile.flush()
            own.waiting.wait(5)

    def empty(self, status: int, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """The handler's class, with the address of its server as `url`; what waits is short."""
    monkeypatch.setattr(download, "PATIENCE", 0.3)
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.02))
    own = dict(asked=[], faults=[], paths={}, waiting=threading.Event(), content=CONTENT)
    kind = type("Handler", (Server,), own)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        kind.root = f"http://127.0.0.1:{running.server_port}/"
        kind.url = kind.root + "file.zip"
        yield kind
        kind.waiting.set()
        running.shutdown()
        thread.join()


def left(folder: Path) -> list[str]:
    """The files in a folder, but for the locks of downloads, which stay."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def fetched(server, where: Path) -> None:
    """Download CONTENT; nothing else is left in the folder."""
    download.fetch(server.url, where / "file.zip", BLOB)
    assert (where / "file.zip").read_bytes() == CONTENT
    assert left(where) == ["file.zip"]


def test_download(tmp_path, server, capsys):
    fetched(server, tmp_path / "new")
    assert server.asked == [None]
    shown = capsys.readouterr()
    assert "downloading file.zip" in shown.err and not shown.out
    fetched(server, tmp_path / "new")
    assert len(server.asked) == 1  # it is there


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(tmp_path, server, ranges, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", ())
    server.most, server.ranges = 100_000, ranges
    with pytest.raises(ConnectionError, match="100000 of 300000 bytes; a repeated run resumes it"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert left(tmp_path) == ["file.zip.part"]
    assert (tmp_path / "file.zip.part").stat().st_size == 100_000
    server.most = None
    fetched(server, tmp_path)
    assert server.asked == [None, "bytes=100000-"]


def test_further_attempts_go_on_where_it_broke_off(tmp_path, server, caplog):
    server.most = 100_000
    fetched(server, tmp_path)
    assert server.asked == [None, "bytes=100000-", "bytes=200000-"]
    assert "broke off after 100000 of 300000 bytes" in caplog.text
    assert "next attempt in 0.02 s" in caplog.text


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(tmp_path, server, status):
    server.faults = [status, status]
    fetched(server, tmp_path)
    assert server.asked == [None] * 3


@pytest.mark.parametrize("status, attempts", [(503, 3), (404, 1), (403, 1)])
def test_a_server_that_has_not_the_file(tmp_path, server, status, attempts):
    server.faults = [status] * 9
    with pytest.raises(ConnectionError, match=f"download failed: .*{status}"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert len(server.asked) == attempts and not left(tmp_path)


def test_a_connection_that_stands_still(tmp_path, server):
    server.most, server.stalls = 100_000, 9
    with pytest.raises(ConnectionError, match="timed out; a repeated run resumes it"):
        server.announced = "400000"  # so that it never has all
        download.fetch(server.url, tmp_path / "file.zip", files.blob_id(b"more"))
    assert len(server.asked) == 3


def test_a_connection_that_stands_still_once(tmp_path, server):
    server.most, server.stalls = 200_000, 1
    fetched(server, tmp_path)
    assert server.asked[1].startswith("bytes=") and len(server.asked) == 2


def test_redirects(tmp_path, server):
    server.redirects = 1
    fetched(server, tmp_path)


def test_redirects_without_an_end(tmp_path, server):
    server.redirects = 2
    with pytest.raises(ConnectionError, match="redirect"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert not left(tmp_path)


def test_more_is_announced_than_comes(tmp_path, server):
    server.announced, server.ranges = "999999", False
    fetched(server, tmp_path)
    assert len(server.asked) == 1


def test_less_is_announced_than_comes(tmp_path, server):
    server.announced = "1000"
    with pytest.raises(ConnectionError, match="wrong checksum"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert len(server.asked) == 1 and not left(tmp_path)


def test_no_length_that_is_a_number(tmp_path, server):
    server.announced = "many"
    fetched(server, tmp_path)


def test_another_range_than_asked_for(tmp_path, server):
    server.begins = 7
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    fetched(server, tmp_path)
    assert server.asked == ["bytes=1000-", None]


def test_a_login_page(tmp_path, server):
    server.kind, server.content, server.ranges = "text/html; charset=utf-8", b"<html>", False
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    with pytest.raises(ConnectionError, match="login page"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert len(server.asked) == 1
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:1000]  # what there was stays
    server.kind, server.content, server.ranges = "application/zip", CONTENT, True
    fetched(server, tmp_path)


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_without_an_end(tmp_path, server, monkeypatch, announced):
    monkeypatch.setattr(download, "LIMIT", 1 << 20)
    server.chunked, server.announced = (0, str(1 << 40)) if announced else (10**6, None)
    with pytest.raises(ConnectionError, match="more than 1 MiB"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert len(server.asked) == 1 and not left(tmp_path)


def test_what_was_there_of_another_file_is_dropped(tmp_path, server):
    (tmp_path / "file.zip.part").write_bytes(b"something else")
    fetched(server, tmp_path)
    assert server.asked == ["bytes=14-", None]


@pytest.mark.parametrize("more, asked", [(b"", 1), (b"!", 2)])
def test_a_part_that_is_whole_or_too_long(tmp_path, server, more, asked):
    (tmp_path / "file.zip.part").write_bytes(CONTENT + more)
    fetched(server, tmp_path)
    assert len(server.asked) == asked


def test_a_download_of_another_checksum(tmp_path, server):
    server.content = CONTENT + b"!"
    with pytest.raises(ConnectionError, match=f"wrong checksum .*{BLOB}.*not the published"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert len(server.asked) == 1 and not left(tmp_path)


def test_a_file_of_another_checksum(tmp_path, server):
    (tmp_path / "file.zip").write_bytes(b"mine")
    with pytest.raises(InputError, match="file.zip: wrong checksum .* remove it"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert (tmp_path / "file.zip").read_bytes() == b"mine" and not server.asked


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (99.0,))  # it is not asked again
    with pytest.raises(ConnectionError, match="download failed: .*refused"):
        download.fetch("http://127.0.0.1:9/file.zip", tmp_path / "file.zip", BLOB)
    assert not left(tmp_path)


def test_processes_that_want_the_same_file(tmp_path, server):
    code = (
        "import sys; from pathlib import Path; from hatjax.data import download;"
        "url, path, blob = sys.argv[1:]; download.fetch(url, Path(path), blob)"
    )
    command = [sys.executable, "-c", code, server.url, tmp_path / "file.zip", BLOB]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for process in several:
        assert "Error" not in process.communicate(timeout=30)[1].decode()
        assert process.returncode == 0
    assert server.asked == [None]
    fetched(server, tmp_path)


def test_one_waits_for_the_other(tmp_path, server, caplog):
    server.most, server.stalls = 200_000, 1
    threads = [threading.Thread(target=fetched, args=(server, tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.zip").read_bytes() == CONTENT and len(server.asked) == 2
    assert "waiting for another process that downloads file.zip" in caplog.text


# What torchvision knows, from the same server.


def test_mnist_is_downloaded(tmp_path, server, monkeypatch):
    want = files.raw(side=28, channels=1)
    files.write_idx(tmp_path / "published", want)
    cls = vision.datasets().MNIST
    resources = []
    for name, _ in cls.resources:
        content = gzip.compress((tmp_path / "published" / name.removesuffix(".gz")).read_bytes())
        (tmp_path / name).write_bytes(content)
        resources.append((name, files.md5(tmp_path / name)))
        server.paths[f"/good/{name}"] = content
    server.content, server.faults = b"another file", [503]
    monkeypatch.setattr(cls, "resources", resources)
    monkeypatch.setattr(cls, "mirrors", [server.root + "bad/", server.root + "good/"])
    root = tmp_path / "root"
    got = data.load("mnist", root)
    np.testing.assert_array_equal(got.x_test, want.x_test)
    there = left(root / "MNIST" / "raw")
    assert len(there) == 8 and not any(name.startswith(".") for name in there)
    # Without one of the files, it is unpacked again; with half of it, that is told.
    (root / "mnist.npz").unlink()
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    np.testing.assert_array_equal(data.load("mnist", root).x_train, want.x_train)


def test_half_an_archive(tmp_path, server, monkeypatch):
    cls = vision.datasets().CIFAR10
    monkeypatch.setattr(cls, "url", server.url)
    (tmp_path / cls.filename).write_bytes(b"half")
    with pytest.raises(InputError, match="cifar-10-python.tar.gz: wrong checksum .* remove it"):
        data.load("cifar10", tmp_path)
    (tmp_path / cls.filename).unlink()
    with pytest.raises(InputError, match="not the published file"):
        data.load("cifar10", tmp_path)
    assert not left(tmp_path)


def test_signs_are_downloaded(tmp_path, server, monkeypatch):
    want = files.raw()
    files.write_gtsrb(tmp_path / "published", want)
    known: dict[str, list] = {"train": [], "test": []}
    for split, inside in [
        ("train", "GTSRB/Training"),
        ("test", "GT-final_test.csv"),
        ("test", "GTSRB/Final_Test/Images"),
    ]:
        top = tmp_path / "published" / inside
        file, name = io.BytesIO(), f"{top.stem}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for path in [top, *top.rglob("*")]:
                archive.write(path, path.relative_to(tmp_path / "published"))
        (tmp_path / name).write_bytes(file.getvalue())
        server.paths[f"/{name}"] = file.getvalue()
        known[split].append((name, files.md5(tmp_path / name), inside))
    monkeypatch.setattr(public, "SIGNS", server.root)
    monkeypatch.setattr(public, "SIGN_FILES", known)
    got = data.load("gtsrb", tmp_path / "root")
    np.testing.assert_array_equal(got.x_test, want.x_test)
    assert len(got.y_train) == len(want.y_train)
    hidden = [p.name for p in (tmp_path / "root").rglob(".*")]
    assert all(name.endswith(".lock") for name in hidden)


def test_a_set_is_downloaded(tmp_path, server, monkeypatch):
    want = files.raw(channels=1)
    server.content = files.zipped_pickles(want, "notmnist_{}.pkl")
    members = ("notmnist_train.pkl", "notmnist_test.pkl")
    read = zipped.reader(server.url, files.blob_id(server.content), *members)
    source = sources.SOURCES["notmnist"]._replace(read=read)
    monkeypatch.setitem(sources.SOURCES, "notmnist", source)
    np.testing.assert_array_equal(data.load("notmnist", tmp_path).x_test, want.x_test)


# Folders that cannot be written.


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn", "gtsrb", "notmnist"])
@pytest.mark.parametrize("below", ["file", "/proc"])
def test_a_data_root_that_cannot_be_written(tmp_path, name, below):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written") as caught:
        data.load(name, tmp_path / below / "data")
    message = str(caught.value)
    for words in (repr(name), "--config.data.root", "$HATJAX_DATA", "$XDG_CACHE_HOME", below):
        assert words in message


def test_a_disk_that_is_full(tmp_path, server, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="cannot be written .No space left"):
        download.fetch(server.url, tmp_path / "file.zip", BLOB)
    assert left(tmp_path) == ["file.zip.part"]
    with pytest.raises(OSError):
        npz.write(tmp_path / "a.npz", files.raw())
    assert left(tmp_path) == ["file.zip.part"]


@pytest.fixture
def cache_settings():
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_compilation_cache_that_cannot_be_written(tmp_path, monkeypatch, caplog, cache_settings):
    caplog.set_level(logging.WARNING)
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/cache")
    compilation.use_cache()
    compilation.use_cache()
    assert caplog.text.count("compiled programs are not kept") == 1 and "/proc" in caplog.text
    assert not jax.config.values["jax_enable_compilation_cache"]


def test_a_compilation_cache(tmp_path, monkeypatch, caplog, cache_settings):
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation.use_cache()
    assert (tmp_path / "hatjax" / "xla").is_dir() and not caplog.text
