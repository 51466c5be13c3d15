"""Published files are read as their publishers store them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_server import arrays, cache, offline

from framework.datasets.download import Limits, Unavailable
from framework.datasets.published import IMAGE_SETS, ImageSet, load_original

__all__ = ["cache", "offline"]

# Where an answer comes: the machine may be busy. And one for each way in which none comes.
LONG = Limits(connect=120.0, stall=120.0, total=600.0)


def publish(cache: Path, images: ImageSet, contents: list[bytes]) -> ImageSet:
    """Put files into the cache, and return the set with their checksums."""
    remotes = []
    for remote, content in zip(images.files, contents, strict=True):
        path = cache / "datasets" / remote.places[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        remotes.append(replace(remote, sha256=hashlib.sha256(content).hexdigest()))
    return replace(images, files=tuple(remotes))


def test_fashion_mnist_is_read_from_idx_files(cache: Path, offline: None) -> None:
    wanted = arrays((6, 4), (28, 28))

    def idx(array: np.ndarray) -> bytes:
        sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
        return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())

    images = replace(IMAGE_SETS["fashion_mnist"], rows=(6, 4))
    for remote in images.files:  # the names say which file is which
        assert remote.url.endswith(remote.places[0].rpartition("/")[2])
    contents = []
    for remote in images.files:
        split = "train" if "train" in remote.url else "test"
        contents.append(idx(wanted[("x_" if "images" in remote.url else "y_") + split]))
    found = load_original(publish(cache, images, contents))
    for key, array in zip(("x_train", "y_train", "x_test", "y_test"), found, strict=True):
        assert np.array_equal(array, wanted[key])


def archive(members: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else pickle.dumps(content, 3)
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def planes(images: np.ndarray) -> np.ndarray:
    """Rows of all red, then all green, then all blue pixels, as CIFAR has them."""
    return np.concatenate([images[..., c].reshape(len(images), -1) for c in range(3)], axis=1)


def test_cifar_is_read_from_its_archives(cache: Path, offline: None) -> None:
    wanted = arrays((2000, 4), (32, 32, 3))
    x, y = wanted["x_train"], wanted["y_train"]
    test = {b"data": planes(wanted["x_test"])}
    hundred = {
        "meta": b"no pickle at all",
        "test": {**test, b"fine_labels": wanted["y_test"].tolist(), b"coarse_labels": [9] * 4},
        "train": {b"data": planes(x), b"fine_labels": y.tolist(), b"coarse_labels": [9] * 2000},
    }
    ten: dict[str, Any] = {"test_batch": {**test, b"labels": wanted["y_test"].tolist()}}
    for i in (3, 1, 2, 5, 4):
        part = slice(400 * (i - 1), 400 * i)
        ten[f"data_batch_{i}"] = {b"data": planes(x[part]), b"labels": y[part].tolist()}
    for name, members in (("cifar100", hundred), ("cifar10", ten)):
        images = replace(IMAGE_SETS[name], rows=(2000, 4))
        found = load_original(publish(cache, images, [archive(members)]))
        for key, array in zip(("x_train", "y_train", "x_test", "y_test"), found, strict=True):
            assert np.array_equal(array, wanted[key]), (name, key)
            assert array.dtype == np.uint8
            assert array.flags.c_contiguous


def test_an_archive_unpickles_nothing_but_arrays(cache: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(cache / "exploded"),))

    members = {"train": {b"data": Bomb()}, "test": {}}
    images = publish(cache, IMAGE_SETS["cifar100"], [archive(members)])
    with pytest.raises(pickle.UnpicklingError, match="not part of an array"):
        load_original(replace(images, rows=(5, 5)))
    # With another checksum it is not even opened.
    with pytest.raises(Unavailable):
        load_original(_forged(images), LONG)
    assert not (cache / "exploded").exists()


def _forged(images: ImageSet) -> ImageSet:
    remote = replace(images.files[0], sha256="0" * 64, url="http://127.0.0.1:1/a")
    return replace(images, files=(remote,))


def test_the_published_files_are_those_of_keras() -> None:
    import inspect

    import keras

    for name, images in IMAGE_SETS.items():
        module = getattr(keras.datasets, name)
        source = inspect.getsource(inspect.getmodule(module.load_data))  # type: ignore[arg-type]
        for remote in images.files:
            base, _, file = remote.url.rpartition("/")
            assert base in source
            assert file in source
            # Keras checks no checksum of Fashion-MNIST.
            assert remote.sha256 in source or name == "fashion_mnist"
        place = images.files[0].places[0].removesuffix("_archive").rpartition("/")[2]
        assert place in source
