"""Loads image sets by name: from a directory, Keras's cache, the network, or synthetic."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.core.paths import local_path
from framework.datasets.class_names import CLASS_NAMES
from framework.datasets.download import Unavailable
from framework.datasets.npz import read_npz
from framework.datasets.one_hot import one_hot_after
from framework.datasets.published import IMAGE_SETS, load_original
from framework.datasets.synthetic import synthetic_images
from framework.errors import UserError, choice

if TYPE_CHECKING:
    from framework.data import Data

SOURCES = ("auto", "real", "synthetic")

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class DatasetArrays:
    """An image set in its stored form.

    Attributes:
        name: Name of the set.
        x_train: Images for training, (N, height, width) or (N, height, width, channels); uint8
            in the built-in sets.
        y_train: Labels of `x_train`, whole numbers of shape (N,).
        x_test: Images for testing.
        y_test: Labels of `x_test`.
        num_classes: Number of classes.
        source: Origin of the arrays: `dir`, `keras` (its cache or download) or `synthetic`.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    num_classes: int
    source: str


def load_dataset(
    name: str, *, dir: str | Path | None = None, source: str = "auto", seed: int = 0
) -> DatasetArrays:
    """Load an image set from a directory, from Keras's cache, or from the network.

    Each array is in memory once, in its stored form. If the set is not available, `source="auto"`
    generates a synthetic stand-in of the same shape and logs a warning.

    Example:
        >>> data = load_dataset("cifar100", dir="~/data")
        >>> data.x_train.shape, data.source
        ((50000, 32, 32, 3), 'dir')

    Args:
        name: mnist, fashion_mnist, cifar10, cifar100 (fine labels); with `dir` any name.
        dir: Directory of `<name>.npz`, with x_train, y_train, x_test and y_test. Default: Keras's
            cache or download.
        source: `real` never uses the stand-in, `synthetic` always does, and `auto` does if the
            set is not available.
        seed: Seed of the stand-in.

    Returns:
        The arrays.

    Raises:
        UserError: If there is no such set, its file is invalid, or `source="real"` is not
            available.
    """
    if source not in SOURCES:
        raise UserError(f"source is {source!r}", where="data.source", fix=choice(source, SOURCES))
    if dir is not None and source != "synthetic":
        return _from_dir(name, dir)
    if name not in IMAGE_SETS:
        raise UserError(
            f"there is no image set {name!r}",
            where="data.name",
            fix=f"{choice(name, sorted(IMAGE_SETS))}\n"
            f"For your own images give data.dir, the directory of {name}.npz.",
        )
    if source == "synthetic":
        return _stand_in(name, f"{name} was requested with source=synthetic", seed)
    images = IMAGE_SETS[name]
    try:
        return DatasetArrays(name, *load_original(images), images.classes, "keras")
    except Unavailable as problem:
        if source == "real":
            raise UserError(
                f"{name} is not available ({problem})",
                where="data.source=real",
                fix=f"Put {name}.npz into a directory and give data.dir=<directory>, or run once "
                "with a network:\n"
                f'python -c "import keras; keras.datasets.{name}.load_data()"',
            ) from None
        return _stand_in(name, f"{name} is not available ({problem})", seed)


def image_data(
    name: str,
    *,
    dir: str | Path | None = None,
    source: str = "auto",
    batch_size: int = 32,
    eval_batch_size: int | None = None,
    resident: bool | None = None,
    shuffle: bool = True,
    val_fraction: float = 0.0,
    augment: Callable[[Any, Any], Any] | None = None,
    one_hot: bool = False,
    seed: int = 0,
) -> Data:
    """Create the `Data` of an image set: float32 images with a channel axis, pixels in 0..1.

    The arrays keep their stored form. The compiled loop adds the channel axis and divides
    whole-number pixels by 255; it does not change pixels that are stored as floats.

    Example:
        >>> data = image_data("mnist", val_fraction=0.1, augment=Augment(crop=2))
        >>> data.info["source"]
        'keras'

    Args:
        name: See `load_dataset`.
        dir: See `load_dataset`.
        source: See `load_dataset`.
        batch_size: Examples per training batch.
        eval_batch_size: Examples per evaluation batch. Default: large, see `Data`.
        resident: Keep the arrays on the device. Default: if they fit, see `Data`.
        shuffle: Use a different order in every epoch.
        val_fraction: Fraction of the training split to validate on.
        augment: A function of a batch and a seed, such as an `Augment`, for training batches.
        one_hot: Turn labels into float32 rows of num_classes, with a 1 at the label's place.
        seed: Seed of the synthetic stand-in.

    Returns:
        Data with `train` and `test` as (images, labels). `info` has name, source and num_classes;
        the built-in sets have `class_names`.

    Raises:
        UserError: If a value is out of range, or the set cannot be loaded.
    """
    from framework.data import Data
    from framework.datasets.augment import Augment

    # Check the ranges first, before a long download.
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "eval_batch_size": eval_batch_size,
        "resident": resident,
        "shuffle": shuffle,
        "val_fraction": val_fraction,
        "map": to_float,
        "augment": None if isinstance(augment, Augment) and not augment.enabled else augment,
    }
    Data(**options)
    found = load_dataset(name, dir=dir, source=source, seed=seed)
    import tensorflow as tf

    if one_hot:
        options["map"] = partial(one_hot_after, classes=found.num_classes, first=to_float)
    info = {"name": name, "source": found.source, "num_classes": found.num_classes}
    with tf.device("/CPU:0"):
        # As tensors, so that the trainer does not copy them and the arrays can be freed.
        train = tf.convert_to_tensor(found.x_train), tf.convert_to_tensor(found.y_train)
        test = tf.convert_to_tensor(found.x_test), tf.convert_to_tensor(found.y_test)
    names = CLASS_NAMES.get(name, ())
    return Data(train=train, test=test, info=info, class_names=names, **options)


def to_float(batch: Any) -> Any:
    """Add a channel axis to images, and convert them to float32 in 0..1.

    Whole-number pixels are divided by 255.

    Example:
        >>> images, labels = to_float((np.full((8, 28, 28), 255, np.uint8), np.zeros(8)))
        >>> images.shape, float(images[0, 0, 0, 0])
        (TensorShape([8, 28, 28, 1]), 1.0)
    """
    import tensorflow as tf

    images, labels = batch
    images = tf.convert_to_tensor(images)
    scaled = tf.cast(images, tf.float32)
    if images.dtype.is_integer:
        scaled /= 255.0
    return (scaled[..., tf.newaxis] if images.shape.rank == 3 else scaled), labels


def _from_dir(name: str, dir: str | Path) -> DatasetArrays:
    if not str(dir):
        raise UserError("dir is empty", where="data.dir", fix="Give a directory, or null.")
    folder = local_path(dir, "data.dir")
    path = folder / f"{name}.npz"
    if not path.exists():
        there = sorted(p.stem for p in folder.glob("*.npz"))
        if not folder.is_dir():
            fix = f"{folder.absolute()} is not a directory."
        elif there:
            fix = f"data.name={name} is not among the .npz files there. {choice(name, there)}"
        else:
            fix = f"Put {name}.npz there, with x_train, y_train, x_test and y_test."
        raise UserError(f"there is no {path.absolute()}", where="data.dir", fix=fix)
    x_train, y_train, x_test, y_test = read_npz(path)
    highest = int(max(y_train.max(), y_test.max()))
    classes = IMAGE_SETS[name].classes if name in IMAGE_SETS else highest + 1
    if highest >= classes:
        key = "y_train" if int(y_train.max()) == highest else "y_test"
        raise UserError(
            f"{key} has a label {highest}, but {name} has {classes} classes, counted from 0",
            where=f"{path}, {key}",
            fix="Correct the labels, or give the file another name.",
        )
    return DatasetArrays(name, x_train, y_train, x_test, y_test, classes, "dir")


def _stand_in(name: str, reason: str, seed: int) -> DatasetArrays:
    _log.warning(
        "SYNTHETIC DATA: %s; using a generated stand-in. Its accuracy says nothing about the real "
        "images. To use these, give data.dir=<directory of %s.npz>.",
        reason,
        name,
    )
    images = IMAGE_SETS[name]
    arrays = synthetic_images(
        name, shape=images.shape, rows=images.rows, classes=images.classes, seed=seed
    )
    return DatasetArrays(name, *arrays, images.classes, "synthetic")
