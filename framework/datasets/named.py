"""Image sets by name, from wherever they can be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.core.paths import local_path
from framework.datasets.download import Unavailable
from framework.datasets.npz import read_npz
from framework.datasets.published import IMAGE_SETS, load_original
from framework.datasets.synthetic import synthetic_images
from framework.errors import UserError, choice

if TYPE_CHECKING:
    from framework.data import Data

SOURCES = ("auto", "real", "synthetic")

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class DatasetArrays:
    """An image set as it is stored.

    Attributes:
        name: What it is called.
        x_train: Images for training, (N, height, width) or (N, height, width, channels), uint8
            for the sets known by name.
        y_train: Their labels, whole numbers of shape (N,).
        x_test: Images for testing.
        y_test: Their labels.
        num_classes: Number of classes.
        source: Where it came from: `dir`, `keras` (its cache or download) or `synthetic`.
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

    Each array is held once, as it is stored. Where the network cannot be reached, `source="auto"`
    makes a synthetic stand-in of the same shape and announces it.

    Example:
        >>> data = load_dataset("cifar100", dir="~/data")
        >>> data.x_train.shape, data.source
        ((50000, 32, 32, 3), 'dir')

    Args:
        name: mnist, fashion_mnist, cifar10, cifar100 (fine labels); with `dir` any other too.
        dir: Where `<name>.npz` lies, with x_train, y_train, x_test and y_test. Default: Keras's
            cache or download.
        source: `real` refuses the stand-in, `synthetic` asks for it, whatever else there is.
        seed: Of the stand-in.

    Returns:
        The arrays.

    Raises:
        UserError: There is no such set, its file is faulty, or `source="real"` cannot be had.
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
            f"For images of your own give data.dir, the directory of {name}.npz.",
        )
    if source == "synthetic":
        return _stand_in(name, f"{name} was asked for with source=synthetic", seed)
    images = IMAGE_SETS[name]
    try:
        return DatasetArrays(name, *load_original(images), images.classes, "keras")
    except Unavailable as problem:
        if source == "real":
            raise UserError(
                f"{name} could not be had ({problem})",
                where="data.source=real",
                fix=f"Put {name}.npz into a directory and give data.dir=<directory>, or run once "
                "with a network:\n"
                f'python -c "import keras; keras.datasets.{name}.load_data()"',
            ) from None
        return _stand_in(name, f"{name} could not be had ({problem})", seed)


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
    seed: int = 0,
) -> Data:
    """Make the `Data` of an image set: float32 images with a channel axis, pixels in 0..1.

    The arrays stay as they are stored. The channel axis is added and whole-number pixels are
    divided by 255 in the compiled loop; pixels stored as floats are taken as they are.

    Example:
        >>> data = image_data("mnist", val_fraction=0.1, augment=Augment(crop=2))
        >>> data.info["source"]
        'keras'

    Args:
        name: See `load_dataset`.
        dir: See `load_dataset`.
        source: See `load_dataset`.
        batch_size: Examples in a training batch.
        eval_batch_size: The same for evaluation. Default: large, see `Data`.
        resident: Hold the arrays on the device. Default: if there is room, see `Data`.
        shuffle: Draw a new order every epoch.
        val_fraction: Part of the training split to validate on.
        augment: A function of a batch and a seed, such as an `Augment`, for training batches.
        seed: Of the synthetic stand-in.

    Returns:
        Data with `train` and `test` as (images, labels). `info` has name, source and num_classes.

    Raises:
        UserError: A value is out of its range, or the set cannot be loaded.
    """
    from framework.data import Data
    from framework.datasets.augment import Augment

    # Ranges first: nobody wants to wait for a download to be told.
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

    info = {"name": name, "source": found.source, "num_classes": found.num_classes}
    with tf.device("/CPU:0"):
        # As tensors, so that the trainer need not copy them and the arrays can go.
        train = tf.convert_to_tensor(found.x_train), tf.convert_to_tensor(found.y_train)
        test = tf.convert_to_tensor(found.x_test), tf.convert_to_tensor(found.y_test)
    return Data(train=train, test=test, info=info, **options)


def to_float(batch: Any) -> Any:
    """Give images a channel axis and make them float32, whole-number pixels divided by 255.

    Example:
        >>> images, labels = to_float((np.full((8, 28, 28), 255, np.uint8), np.zeros(8)))
        >>> images.shape, float(images[0, 0, 0, 0])
        (TensorShape([8, 28, 28, 1]), 1.0)

    Args:
        batch: Images of shape (B, H, W) or (B, H, W, C), and labels.

    Returns:
        Images of shape (B, H, W, C), and the same labels.
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
            fix = f"{folder.absolute()} is no directory."
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
            f"{key} has a label {highest}, but {name} has {classes} classes, from 0 on",
            where=f"{path}, {key}",
            fix="Correct the labels, or give the file another name.",
        )
    return DatasetArrays(name, x_train, y_train, x_test, y_test, classes, "dir")


def _stand_in(name: str, reason: str, seed: int) -> DatasetArrays:
    _log.warning(
        "SYNTHETIC DATA: %s; these images are a generated stand-in. Their accuracy means nothing "
        "for the real ones. For those give data.dir=<directory of %s.npz>.",
        reason,
        name,
    )
    images = IMAGE_SETS[name]
    arrays = synthetic_images(
        name, shape=images.shape, rows=images.rows, classes=images.classes, seed=seed
    )
    return DatasetArrays(name, *arrays, images.classes, "synthetic")
