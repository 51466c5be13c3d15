"""Image sets by name: from a directory, from Keras, or a stand-in."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.data.augment import Augment
from framework.data.npz import load_npz
from framework.data.source import Data
from framework.data.synthetic import synthetic_images
from framework.errors import UserError, closest

_log = logging.getLogger("framework")

SOURCES = ("auto", "real", "synthetic")
REACH_SECONDS = 4.0  # to find out whether there is a network, name look-up included
STALL_SECONDS = 20.0  # without a byte, until a download is given up


@dataclass(frozen=True)
class Known:
    """What is known of a named set without having it.

    Attributes:
        shape: Of one image, as it is stored.
        classes: Number of classes.
        rows: Rows of the training and of the test split.
        host: Where Keras downloads it from.
        cached: Files below Keras's `datasets` directory that show that it is there.
    """

    shape: tuple[int, ...]
    classes: int
    rows: tuple[int, int]
    host: str
    cached: tuple[str, ...]


_GOOGLE, _TORONTO = "storage.googleapis.com", "www.cs.toronto.edu"
_FASHION = tuple(
    f"fashion-mnist/{name}-ubyte.gz"
    for name in ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3")
)
KNOWN = {
    "mnist": Known((28, 28), 10, (60_000, 10_000), _GOOGLE, ("mnist.npz",)),
    "fashion_mnist": Known((28, 28), 10, (60_000, 10_000), _GOOGLE, _FASHION),
    "cifar10": Known((32, 32, 3), 10, (50_000, 10_000), _TORONTO, ("cifar-10-batches-py-target",)),
    "cifar100": Known((32, 32, 3), 100, (50_000, 10_000), _TORONTO, ("cifar-100-python-target",)),
}


@dataclass(frozen=True)
class Arrays:
    """A labelled image set, as it is stored.

    Attributes:
        x_train: Images of the training split, of shape (rows, height, width[, channels]).
        y_train: Their labels, of shape (rows,).
        x_test: Images of the test split.
        y_test: Their labels.
        classes: Number of classes.
        source: `dir`, `keras` or `synthetic`.
    """

    x_train: Any
    y_train: Any
    x_test: Any
    y_test: Any
    classes: int
    source: str


def image_data(
    name: str,
    *,
    dir: str | Path | None = None,
    source: str = "auto",
    batch_size: int = 32,
    eval_batch_size: int | None = None,
    shuffle: bool = True,
    val_fraction: float = 0.0,
    augment: Augment | None = None,
    seed: int = 0,
) -> Data:
    """Return a named image set as a `Data`: pixels over 255 with a channel axis, and labels.

    Images stay in memory once, as they are stored; scaling happens in the compiled loop.

    Example:
        >>> Trainer(max_epochs=5).fit(task, image_data("mnist", val_fraction=0.1))

    Args:
        name: `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, or with `dir` any `<name>.npz`.
        dir: See `load_dataset`.
        source: See `load_dataset`.
        batch_size: Rows of a training batch.
        eval_batch_size: The same for validation and test. Default: `batch_size`.
        shuffle: Another order every epoch.
        val_fraction: Part of the training rows held back for validation.
        augment: How training images are varied.
        seed: Seed of the stand-in.

    Returns:
        The data, with `info` saying where they came from.
    """
    # What can be wrong with the options is said before anything is loaded.
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "eval_batch_size": eval_batch_size,
        "shuffle": shuffle,
        "val_fraction": val_fraction,
        "map": scaled,
        "augment": augment if augment is not None and augment.active else None,
    }
    Data(**options)
    arrays = load_dataset(name, dir=dir, source=source, seed=seed)
    info = {
        "name": name,
        "source": arrays.source,
        "classes": arrays.classes,
        "rows": {"train": len(arrays.y_train), "test": len(arrays.y_test)},
    }
    return Data(
        train=(arrays.x_train, arrays.y_train),
        test=(arrays.x_test, arrays.y_test),
        info=info,
        **options,
    )


def scaled(batch: Any) -> Any:
    """Return (images, labels) with a channel axis, and uint8 pixels divided by 255."""
    images, labels = batch
    if images.shape.rank == 3:
        images = images[..., None]
    whole = images.dtype.is_integer
    images = tf.cast(images, keras.config.floatx())
    return images / 255 if whole else images, labels


def load_dataset(
    name: str, *, dir: str | Path | None = None, source: str = "auto", seed: int = 0
) -> Arrays:
    """Load an image set by name.

    Args:
        name: One of `KNOWN`, or with `dir` any `<name>.npz` there.
        dir: Where `<name>.npz` lies, with x_train, y_train, x_test and y_test. Default: Keras's
            cache, or its download.
        source: `real`; `synthetic`: a generated stand-in; `auto`: the stand-in only if the
            network cannot be reached. The stand-in is announced.
        seed: Seed of the stand-in.

    Returns:
        The arrays, as tensors on the host.

    Raises:
        UserError: There is no such set, its file is at fault, or it cannot be had.
    """
    if source not in SOURCES:
        raise UserError(f"source is {source!r}", where="data.source", fix=closest(source, SOURCES))
    if name not in KNOWN and dir is None:
        raise UserError(
            f"there is no data set {name!r}",
            where="data.name",
            fix=f"{closest(name, KNOWN)} Or give data.dir=, the directory of {name}.npz.",
        )
    if source == "synthetic":
        if name not in KNOWN:
            raise UserError(f"there is no stand-in for {name!r}", where="data.source")
        return _stand_in(name, seed, "as asked for by data.source=synthetic")
    if dir is not None:
        arrays = load_npz(Path(dir).expanduser() / f"{name}.npz")
        known = KNOWN.get(name)
        highest = 1 + max(int(arrays["y_train"].max()), int(arrays["y_test"].max()))
        return _arrays(arrays, known.classes if known else highest, "dir")
    if not _is_cached(KNOWN[name]) and not reachable(KNOWN[name].host):
        return _without_network(name, source, seed, f"{KNOWN[name].host} cannot be reached")
    try:
        arrays = _from_keras(name)
    except _Unavailable as error:
        return _without_network(name, source, seed, str(error))
    return _arrays(arrays, KNOWN[name].classes, "keras")


def reachable(host: str, port: int = 443, seconds: float = REACH_SECONDS) -> bool:
    """Tell whether a host answers in time; looking up its name may hang, and is not waited for."""
    answered = threading.Event()

    def knock() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            answered.set()
        except OSError:
            return

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


class _Unavailable(Exception):
    """A download failed."""


def _from_keras(name: str) -> dict[str, Any]:
    module = getattr(keras.datasets, name)
    try:
        with _downloads_are_whole():
            (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # Keras raises a bare Exception for a failed download
        raise _Unavailable(f"the download failed: {str(error).splitlines()[0]}") from error
    y_train, y_test = (np.reshape(y, -1).astype(np.uint8) for y in (y_train, y_test))
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


@contextmanager
def _downloads_are_whole() -> Iterator[None]:
    """Give up a download that stalls, and leave nothing of a failed one in Keras's cache."""
    directory = _cache()
    before = set(directory.glob("*")) | set(directory.glob("*/*"))
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    except BaseException:
        for path in {*directory.glob("*/*"), *directory.glob("*")} - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    finally:
        socket.setdefaulttimeout(former)


def _cache() -> Path:
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(home).expanduser() / "datasets"


def _is_cached(known: Known) -> bool:
    return all((_cache() / name).exists() for name in known.cached)


def _without_network(name: str, source: str, seed: int, why: str) -> Arrays:
    if source == "real":
        raise UserError(
            f"{name} cannot be had: {why}",
            where="data.source=real",
            fix=f"Give data.dir=, a directory with {name}.npz, or data.source=synthetic to train "
            "on a generated stand-in.",
        )
    return _stand_in(name, seed, why)


def _stand_in(name: str, seed: int, why: str) -> Arrays:
    known = KNOWN[name]
    _log.warning(
        "SYNTHETIC DATA, NOT %s: %s. Training on generated images of the same shape; "
        "their accuracy says nothing about the real ones.",
        name.upper(),
        why,
    )
    x_train, y_train, x_test, y_test = synthetic_images(
        name, shape=known.shape, rows=known.rows, classes=known.classes, seed=seed
    )
    arrays = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    del x_train, x_test
    return _arrays(arrays, known.classes, "synthetic")


def _arrays(arrays: dict[str, Any], classes: int, source: str) -> Arrays:
    # One after the other, so that only one array is in memory twice at any time.
    with tf.device("/CPU:0"):
        tensors = {key: tf.convert_to_tensor(arrays.pop(key)) for key in list(arrays)}
    return Arrays(**tensors, classes=classes, source=source)
