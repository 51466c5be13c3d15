"""The built-in image sets: their shapes, URLs and file formats."""

from __future__ import annotations

import gzip
import pickle
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from framework.datasets.download import Limits, Remote, Unavailable, obtain

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class ImageSet:
    """A published set of labelled images, uint8.

    Args:
        shape: Shape of one image: (height, width) or (height, width, channels), in pixels.
        rows: Number of images for training and for testing.
        classes: Number of classes.
        files: The published files.
        read: Returns x_train, y_train, x_test, y_test from the open files and `rows`.
    """

    shape: tuple[int, ...]
    rows: tuple[int, int]
    classes: int
    files: tuple[Remote, ...]
    read: Callable[[list[IO[bytes]], tuple[int, int]], Arrays]


def load_original(images: ImageSet, limits: Limits | None = None) -> Arrays:
    """Load x_train, y_train, x_test, y_test, all uint8, from Keras's cache or into it.

    Keras's own loaders use the same files. They are not used here, since their downloads have no
    time limit and can leave an incomplete file in the cache.

    Example:
        >>> x_train, y_train, x_test, y_test = load_original(IMAGE_SETS["mnist"])

    Raises:
        Unavailable: If it is not cached and cannot be downloaded.
    """
    with ExitStack() as cleanup:
        arrays = images.read(obtain(images.files, cleanup, limits), images.rows)
    wanted = [(n, *s) for n in images.rows for s in (images.shape, ())]
    if [a.shape for a in arrays] != wanted:
        raise Unavailable("its arrays have unexpected shapes")
    return arrays


def _read_npz(files: list[IO[bytes]], rows: tuple[int, int]) -> Arrays:
    with np.load(files[0], allow_pickle=False) as file:
        return file["x_train"], file["y_train"], file["x_test"], file["y_test"]


def _read_idx(files: list[IO[bytes]], rows: tuple[int, int]) -> Arrays:
    def read(file: IO[bytes]) -> np.ndarray:
        with gzip.open(file) as stream:
            dimensions = stream.read(4)[3]
            shape = np.frombuffer(stream.read(4 * dimensions), ">i4")
            return np.frombuffer(stream.read(), np.uint8).reshape(shape)

    x_train, y_train, x_test, y_test = map(read, files)
    return x_train, y_train, x_test, y_test


def _read_cifar(train: tuple[str, ...], test: str, key: bytes) -> Callable[..., Arrays]:
    def read(files: list[IO[bytes]], rows: tuple[int, int]) -> Arrays:
        x, x_test = (np.empty((n, 32, 32, 3), np.uint8) for n in rows)
        y, y_test = (np.empty(n, np.uint8) for n in rows)
        parts = zip(train, np.split(x, len(train)), np.split(y, len(train)), strict=True)
        targets = {name: (images, labels) for name, images, labels in parts}
        targets[test] = (x_test, y_test)
        with tarfile.open(fileobj=files[0], mode="r:gz") as archive:
            for member in archive:
                target = targets.pop(member.name.rpartition("/")[2], None)
                stream = archive.extractfile(member) if target else None
                if target and stream:
                    content = _ArraysOnly(stream, encoding="bytes").load()
                    _copy_planes(content[b"data"], target[0])
                    target[1][...] = content[key]
        if targets:
            raise Unavailable(f"its archive has no {' and no '.join(targets)}")
        return x, y, x_test, y_test

    return read


def _copy_planes(flat: np.ndarray, images: np.ndarray) -> None:
    """Copy rows of red, green and blue planes into images, chunk by chunk."""
    for start in range(0, len(images), 1000):
        piece = flat[start : start + 1000].reshape(-1, 3, 32, 32)
        images[start : start + 1000] = piece.transpose(0, 2, 3, 1)


class _ArraysOnly(pickle.Unpickler):
    """Unpickle only NumPy arrays, even from a file with the right checksum."""

    _names = ("_reconstruct", "ndarray", "dtype")
    _modules = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")

    def find_class(self, module: str, name: str) -> Any:
        if module not in self._modules or name not in self._names:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module, name)


def _fashion(name: str, sha256: str, size: int) -> Remote:
    return Remote(_GOOGLE + name, sha256, size, (f"fashion-mnist/{name}",))


IMAGE_SETS = {
    "mnist": ImageSet(
        (28, 28),
        (60_000, 10_000),
        10,
        (
            Remote(
                _GOOGLE + "mnist.npz",
                "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                11_490_434,
                ("mnist.npz",),
            ),
        ),
        _read_npz,
    ),
    "fashion_mnist": ImageSet(
        (28, 28),
        (60_000, 10_000),
        10,
        (
            _fashion(
                "train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                26_421_880,
            ),
            _fashion(
                "train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                29_515,
            ),
            _fashion(
                "t10k-images-idx3-ubyte.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                4_422_102,
            ),
            _fashion(
                "t10k-labels-idx1-ubyte.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                5_148,
            ),
        ),
        _read_idx,
    ),
    "cifar10": ImageSet(
        (32, 32, 3),
        (50_000, 10_000),
        10,
        (
            Remote(
                _TORONTO + "cifar-10-python.tar.gz",
                "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                170_498_071,
                ("cifar-10-batches-py-target_archive", "cifar-10-batches-py.tar.gz"),
            ),
        ),
        _read_cifar(tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", b"labels"),
    ),
    "cifar100": ImageSet(
        (32, 32, 3),
        (50_000, 10_000),
        100,
        (
            Remote(
                _TORONTO + "cifar-100-python.tar.gz",
                "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                169_001_437,
                ("cifar-100-python-target_archive", "cifar-100-python.tar.gz"),
            ),
        ),
        _read_cifar(("train",), "test", b"fine_labels"),
    ),
}
