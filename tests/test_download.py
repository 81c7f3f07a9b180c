"""Downloads from a server of our own, which breaks off and lies; folders that cannot be written."""

import gc
import gzip
import http.server
import io
import logging
import re
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from filelock import FileLock

from hatjax import data
from hatjax.data import npz, public, sources, vision, zipped
from hatjax.errors import InputError
from hatjax.experiment import compilation
from tests import raw_files as files

# torchvision closes no connection on which an error came: they are collected, with a warning.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
MEMBERS = ("notmnist_train.pkl", "notmnist_test.pkl")
LETTERS = files.raw(channels=1)
ZIP = files.zipped_pickles(LETTERS, "notmnist_{}.pkl")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves the files in `paths`; `asked` are the paths of all requests.

    With `most` it breaks off after so many bytes, and with `stalls` it then keeps the connection.
    """

    paths: dict[str, bytes] = {}
    asked: list[str] = []
    most: int | None = None
    stalls: threading.Event | None = None

    def do_GET(self):
        self.asked.append(self.path)
        if self.path not in self.paths:
            return self.send_error(404)
        content = self.paths[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.most])
        if self.stalls:
            self.wfile.flush()
            self.stalls.wait(5)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """The handler's class, with the address of its server as `root`."""
    kind = type("Handler", (Server,), dict(paths={}, asked=[]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        kind.root = f"http://127.0.0.1:{running.server_port}/"
        yield kind
        if kind.stalls:
            kind.stalls.set()
        running.shutdown()
        thread.join()
    gc.collect()


def left(folder: Path) -> list[str]:
    """The files in a folder, but for locks, which stay."""
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def refused(name: str, where: Path) -> str:
    """The one line that says why an image set cannot be had."""
    with pytest.raises(InputError) as caught:
        data.load(name, where)
    message = str(caught.value)
    assert message.startswith(f"image set {name!r}") and str(where) in message, message
    assert "\n" not in message
    return message


# What torchvision knows.


def publish_mnist(server, where: Path, monkeypatch) -> data.Raw:
    """Small files as MNIST's, at /good/ of the server, the second of two mirrors."""
    want = files.raw(side=28, channels=1)
    files.write_idx(where, want)
    cls = vision.datasets().MNIST
    resources = []
    for name, _ in cls.resources:
        content = gzip.compress((where / name.removesuffix(".gz")).read_bytes())
        (where / name).write_bytes(content)
        resources.append((name, files.md5(where / name)))
        server.paths[f"/good/{name}"] = content
    monkeypatch.setattr(cls, "resources", resources)
    monkeypatch.setattr(cls, "mirrors", [server.root + "bad/", server.root + "good/"])
    return want


def test_mnist(tmp_path, server, monkeypatch, capsys):
    want = publish_mnist(server, tmp_path / "published", monkeypatch)
    root = tmp_path / "root"  # the first mirror has nothing
    np.testing.assert_array_equal(data.load("mnist", root).x_test, want.x_test)
    assert left(root) == ["MNIST", "mnist.npz"] and not capsys.readouterr().out
    asked = len(server.asked)
    data.load("mnist", root)
    assert len(server.asked) == asked  # mnist.npz is there
    # What was downloaded is unpacked again, and what is damaged of it is downloaded again.
    (root / "mnist.npz").unlink()
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"another file")
    np.testing.assert_array_equal(data.load("mnist", root).x_train, want.x_train)
    names = [path.rsplit("/")[-1] for path in server.asked[asked:]]
    assert set(names) == {"train-images-idx3-ubyte.gz"}


def publish_cifar(server, where: Path, monkeypatch) -> data.Raw:
    """A small archive as CIFAR-100's on the server."""
    want, cls = files.raw(), vision.datasets().CIFAR100
    files.write_cifar_100(where / "cifar-100-python", want, monkeypatch)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.add(where / "cifar-100-python", "cifar-100-python")
    (where / cls.filename).write_bytes(file.getvalue())
    server.paths["/cifar.tar.gz"] = file.getvalue()
    monkeypatch.setattr(cls, "tgz_md5", files.md5(where / cls.filename))
    monkeypatch.setattr(cls, "url", server.root + "cifar.tar.gz")
    return want


# Python 3.12 and 3.13 warn of what 3.14 does: torchvision unpacks without a filter.
@pytest.mark.filterwarnings("ignore:Python 3.14 will:DeprecationWarning")
def test_cifar(tmp_path, server, monkeypatch):
    want, root = publish_cifar(server, tmp_path / "published", monkeypatch), tmp_path / "root"
    server.most = 1000  # it breaks off
    assert "wrong checksum" in refused("cifar100", root)
    server.most = None
    np.testing.assert_array_equal(data.load("cifar100", root).x_train, want.x_train)
    # One of the unpacked files is damaged, and the archive no longer there.
    (root / "cifar100.npz").unlink()
    (root / "cifar-100-python.tar.gz").unlink()
    (root / "cifar-100-python" / "test").write_bytes(b"half")
    np.testing.assert_array_equal(data.load("cifar100", root).x_test, want.x_test)


def test_svhn_of_a_wrong_checksum(tmp_path, server, monkeypatch):
    files.write_svhn(tmp_path, files.raw(n=20, classes=10))
    known = {s: [f"{server.root}{s}", f"{s}_32x32.mat", "0" * 32] for s in ("train", "test")}
    monkeypatch.setattr(vision.datasets().SVHN, "split_list", known)
    server.paths["/train"] = b"another file"
    assert "wrong checksum: what the server sends" in refused("svhn", tmp_path)


def test_signs(tmp_path, server, monkeypatch):
    want, root = files.raw(), tmp_path / "root"
    top = tmp_path / "published"
    files.write_gtsrb(top, want)
    for name, inside in [
        ("GTSRB-Training_fixed.zip", "GTSRB/Training"),
        ("GTSRB_Final_Test_GT.zip", "GT-final_test.csv"),
        ("GTSRB_Final_Test_Images.zip", "GTSRB/Final_Test/Images"),
    ]:
        found = [p for p in [top / inside, *(top / inside).rglob("*")] if p.is_file()]
        content = {str(p.relative_to(top)): p.read_bytes() for p in found}
        server.paths[f"/{name}"] = files.zipped(content)
    utils = vision.datasets().utils

    def from_ours(url, download_root, md5):  # the address stands in a method of torchvision
        url = server.root + url.rsplit("/", 1)[-1]
        utils.download_and_extract_archive(url, download_root, md5=None)

    monkeypatch.setattr(vision.datasets().gtsrb, "download_and_extract_archive", from_ours)
    files.set_signs(monkeypatch, want)
    np.testing.assert_array_equal(data.load("gtsrb", root).x_test, want.x_test)
    # Half unpacked, which torchvision takes for whole.
    (root / "gtsrb.npz").unlink()
    (root / "gtsrb" / "GT-final_test.csv").unlink()
    assert "GT-final_test.csv is missing: remove" in refused("gtsrb", root)
    (root / "gtsrb" / "GT-final_test.csv").write_bytes((top / "GT-final_test.csv").read_bytes())
    (root / "gtsrb" / public.TEST / "00000.ppm").unlink()
    assert f"{public.TEST} has 5 images, not 6: remove it" in refused("gtsrb", root)


# What it does not know.


@pytest.fixture
def letters(server, monkeypatch):
    """The server, with a small file as notMNIST's."""
    read = zipped.reader(server.root + "notmnist.zip", files.blob_id(ZIP), *MEMBERS)
    source = sources.SOURCES["notmnist"]._replace(read=read)
    monkeypatch.setitem(sources.SOURCES, "notmnist", source)
    server.paths["/notmnist.zip"] = ZIP
    return server


def test_a_zip(tmp_path, letters, capsys):
    got = data.load("notmnist", tmp_path)
    np.testing.assert_array_equal(got.x_test, LETTERS.x_test)
    assert left(tmp_path) == ["notmnist.npz", "notmnist.zip"] and not capsys.readouterr().out


def test_a_zip_that_broke_off(tmp_path, letters):
    letters.most = 1000
    assert "wrong checksum" in refused("notmnist", tmp_path)
    assert "notmnist.zip" not in left(tmp_path)
    letters.most = None
    np.testing.assert_array_equal(data.load("notmnist", tmp_path).x_test, LETTERS.x_test)


def test_another_zip_than_the_published(tmp_path, letters):
    letters.paths["/notmnist.zip"] = ZIP + b"!"
    assert f"expected {files.blob_id(ZIP)}" in refused("notmnist", tmp_path)
    (tmp_path / "notmnist.zip").write_bytes(b"mine")
    asked = len(letters.asked)
    assert "notmnist.zip: wrong checksum" in refused("notmnist", tmp_path)
    assert (tmp_path / "notmnist.zip").read_bytes() == b"mine" and len(letters.asked) == asked


# A server that does not answer, and several processes.


@pytest.mark.parametrize("name, origin", [("notmnist", "github"), ("mnist", "torchvision")])
def test_a_file_that_is_not_there(tmp_path, letters, monkeypatch, name, origin):
    publish_mnist(letters, tmp_path / "published", monkeypatch)
    letters.paths.clear()
    message = refused(name, tmp_path)
    for words in ("404", origin, "--config.data.root=DIR", "$HATJAX_DATA", f"{name}.npz"):
        assert words in message


def test_no_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(vision.datasets().MNIST, "mirrors", ["http://127.0.0.1:9/"])
    assert "refused" in refused("mnist", tmp_path)


def test_a_connection_that_stands_still(tmp_path, letters, monkeypatch):
    monkeypatch.setattr(vision, "TIMEOUT", 0.2)
    letters.most, letters.stalls = 1000, threading.Event()
    assert "timed out" in refused("notmnist", tmp_path)


def test_processes_that_want_the_same_set(tmp_path, letters):
    code = (
        "import sys; from pathlib import Path; from hatjax.data import load, sources, zipped;"
        "read = zipped.reader(sys.argv[1], sys.argv[2], *sys.argv[4:]);"
        "source = sources.SOURCES['notmnist']._replace(read=read);"
        "sources.SOURCES['notmnist'] = source; load('notmnist', Path(sys.argv[3]))"
    )
    url, blob = letters.root + "notmnist.zip", files.blob_id(ZIP)
    command = [sys.executable, "-c", code, url, blob, tmp_path, *MEMBERS]
    several = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in several:
        err = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 0, err
    assert len(letters.asked) == 2  # torchvision asks where it leads, then for the file


def test_one_waits_for_the_other(tmp_path, letters, caplog):
    got = []
    with FileLock(tmp_path / ".notmnist.lock"):
        thread = threading.Thread(target=lambda: got.append(data.load("notmnist", tmp_path)))
        thread.start()
        while "waiting for another process" not in caplog.text and thread.is_alive():
            thread.join(0.01)
        npz.write(tmp_path / "notmnist.npz", LETTERS)
    thread.join()
    np.testing.assert_array_equal(got[0].x_test, LETTERS.x_test)
    assert not letters.asked


# Folders that cannot be written.


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn", "gtsrb", "notmnist"])
@pytest.mark.parametrize("below", ["file", "/proc"])
def test_a_data_root_that_cannot_be_written(tmp_path, name, below):
    (tmp_path / "file").touch()
    message = refused(name, tmp_path / below / "data")
    assert "--config.data.root=DIR or $HATJAX_DATA" in message
    assert re.search(f"(Not a directory|No such file|Permission denied).*{below}", message)


def test_a_data_root_in_which_nothing_can_be_made():
    """It is there, unlike those above. The user root may write in most other folders."""
    assert "'/proc/MNIST'" in refused("mnist", Path("/proc"))


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
