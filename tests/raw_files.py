"""Small image sets in the true on-disk formats of the public ones, for tests."""

import csv
import hashlib
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from hatjax.data import public, vision
from hatjax.data.raw import Raw


def raw(n: int = 12, side: int = 32, channels: int = 3, classes: int = 3, seed: int = 0) -> Raw:
    """Random images "n side side channels", half as many to test; labels go round the classes."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n + n // 2, side, side, channels), np.uint8)
    y = np.arange(len(x)) % classes
    return Raw(x[:n], y[:n].astype(np.int32), x[n:], y[n:].astype(np.int32))


def splits(r: Raw) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"train": (r.x_train, r.y_train), "test": (r.x_test, r.y_test)}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_idx(folder: Path, r: Raw) -> None:
    """The four files of MNIST: a magic number and the sizes, big-endian, then the bytes."""
    folder.mkdir(parents=True)
    for prefix, (x, y) in zip(("train", "t10k"), splits(r).values(), strict=True):
        n, h, w, _ = x.shape
        images = struct.pack(">4I", 2051, n, h, w) + x.tobytes()
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">2I", 2049, n) + y.astype(np.uint8).tobytes()
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def write_cifar(folder: Path, files: dict[str, tuple[np.ndarray, np.ndarray]], labels: str) -> None:
    """CIFAR's pickles: rows of 3072 bytes, a channel after the other, and a list of labels."""
    folder.mkdir(parents=True)
    for name, (x, y) in files.items():
        rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        content = {"data": rows, labels: y.tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


def write_cifar_100(folder: Path, r: Raw, monkeypatch) -> None:
    """CIFAR-100 in `folder`, and torchvision takes these files for the published ones."""
    write_cifar(folder, splits(r), "fine_labels")
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b", "c"]}))
    cls = vision.datasets().CIFAR100
    monkeypatch.setattr(cls, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(cls, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(folder / "meta")})


def write_svhn(folder: Path, r: Raw) -> None:
    """SVHN's MATLAB files: images "h w c n", labels 1..10, where 10 is the digit 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (x, y) in splits(r).items():
        y = np.where(y == 0, 10, y).astype(np.uint8)
        content = {"X": x.transpose(1, 2, 3, 0), "y": y[:, None]}
        scipy.io.savemat(folder / f"{split}_32x32.mat", content)


def write_gtsrb(folder: Path, r: Raw, training: str = "Training") -> None:
    """GTSRB's PPM images of many sizes: a folder a training class, test labels in a CSV."""
    for i, (x, y) in enumerate(zip(r.x_train, r.y_train, strict=True)):
        path = folder / "GTSRB" / training / f"{y:05d}" / f"{i:05d}_00000.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x).resize((20 + i, 40), Image.Resampling.NEAREST).save(path)
    images = folder / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    with open(folder / "GT-final_test.csv", "w", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow("Filename Width Height Roi.X1 Roi.Y1 Roi.X2 Roi.Y2 ClassId".split())
        for i, (x, y) in enumerate(zip(r.x_test, r.y_test, strict=True)):
            Image.fromarray(x).save(images / f"{i:05d}.ppm")
            rows.writerow([f"{i:05d}.ppm", 32, 32, 5, 5, 27, 27, y])


def set_signs(monkeypatch, r: Raw) -> None:
    """The reader of GTSRB then expects as many images as `r` has."""
    for name in public.SIGNS:
        count = len(r.y_test if name == public.TEST else r.y_train)
        monkeypatch.setitem(public.SIGNS, name, count)


def zipped_pickles(r: Raw, stem: str, protocol: int = 2, dtype: type = np.float64) -> bytes:
    """A zip file like FaceScrub's: {'features': "n c h w" whose bytes are "n h w c", 'labels'}."""
    members = {}
    for split, (x, y) in splits(r).items():
        n, h, w, c = x.shape
        content = {"features": x.reshape(n, c, h, w).astype(dtype), "labels": y.astype(dtype)}
        members[stem.format(split)] = pickle.dumps(content, protocol)
    return zipped(members)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def blob_id(content: bytes) -> str:
    """git's name of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def write_folders(folder: Path, r: Raw, suffix: str = ".png") -> None:
    for split, (x, y) in splits(r).items():
        for i, (image, label) in enumerate(zip(x, y, strict=True)):
            path = folder / split / f"class{label}" / f"{i}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(path)
