"""`data=`: the built-in image data sets, tables, folders of images, and sets of your own."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from framework.options.option import option


@dataclass
class AugmentConfig:
    """Augmentation of training images. Everything is off by default."""

    _target_: str = "framework.datasets.augment.Augment"
    flip: bool = option(False, "Mirror half of the images left to right.")
    crop: int = option(0, "Shift by up to this many pixels, padding with zeros.")
    cutout: int = option(0, "Blank a square of this many pixels.")
    brightness: float = option(0.0, "Shift brightness by up to this much, of 1.")
    contrast: float = option(0.0, "Scale contrast by up to this much, of 1.")
    layers: Any = option(  # noqa: RUF009 - any, since the items become layers
        (), "Then apply these: [{_target_: keras.layers.RandomZoom, height_factor: 0.1}]."
    )


@dataclass
class DataConfig:
    """A built-in image data set, and its batches."""

    _target_: str = "framework.datasets.named.image_data"
    _partial_: bool = True
    name: str = option("mnist", "mnist, fashion_mnist, cifar10, cifar100; any name with dir.")
    dir: Optional[str] = option(None, "Directory of <name>.npz; null: Keras's cache or download.")
    source: str = option("auto", "real, synthetic, or auto: real if available.")
    batch_size: int = option(32, "Examples per training batch.")
    eval_batch_size: Optional[int] = option(None, "The same for evaluation; null: large.")
    resident: Optional[bool] = option(None, "Keep the data on the device; null: if they fit.")
    shuffle: bool = option(True, "Draw a new order in every epoch.")
    val_fraction: float = option(0.0, "Fraction of the training split to validate on.")
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    one_hot: bool = option(
        False, "Labels as rows of 0 and 1, for losses and layers that need them."
    )
    seed: int = option(0, "Seed of the synthetic stand-in.")


@dataclass
class FolderConfig:
    """A folder of images by class."""

    _target_: str = "framework.datasets.image_folder.image_folder"
    _partial_: bool = True
    dir: Optional[str] = option(None, "A folder for each class; or with train, val, test.")
    val: Optional[str] = option(None, "The folder of the validation images, if elsewhere.")
    test: Optional[str] = option(None, "The folder of the test images, if elsewhere.")
    predict: Optional[str] = option(None, "A folder of images to predict on.")
    size: list[int] = field(default_factory=lambda: [224, 224])  # height, width
    channels: int = option(3, "1 (grey) or 3.")
    fit: str = option("stretch", "stretch, crop or pad.")
    on_error: str = option("stop", "stop at an image that cannot be decoded, or skip all such.")
    batch_size: int = option(32, "Images per training batch.")
    eval_batch_size: Optional[int] = option(None, "The same for evaluation; null: large.")
    resident: Optional[bool] = option(None, "true: decode once, and keep them in memory.")
    shuffle: bool = option(True, "Draw a new order in every epoch.")
    val_fraction: float = option(0.0, "Fraction of the training images to validate on.")
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    one_hot: bool = option(
        False, "Labels as rows of 0 and 1, for losses and layers that need them."
    )


@dataclass
class TableConfig:
    """The columns of a CSV or Parquet file."""

    _target_: str = "framework.datasets.table_data.table_data"
    _partial_: bool = True
    file: Optional[str] = option(None, "The training rows, in a CSV or Parquet file.")
    target: Optional[str] = option(None, "The column to predict.")
    val: Optional[str] = option(None, "The file of the validation rows, if apart.")
    test: Optional[str] = option(None, "The file of the test rows, if apart.")
    predict: Optional[str] = option(None, "A file of rows to predict on.")
    fitted: Optional[str] = option(None, "A run whose preprocessing to use; null: learn it.")
    val_fraction: float = option(0.0, "Fraction of the rows of file to validate on.")
    test_fraction: float = option(0.0, "Fraction of the rows of file to test on.")
    split_seed: int = option(0, "The seed that draws them.")
    separator: str = option(",", "What separates the values of a CSV file.")
    columns: list[str] = field(default_factory=list)  # those to use; empty: all but the target
    drop: list[str] = field(default_factory=list)  # those to leave out
    numbers: list[str] = field(default_factory=list)  # those that have to be numbers
    categories: list[str] = field(default_factory=list)  # numbers that are categories
    text: list[str] = field(default_factory=list)  # those to split into words
    text_length: int = option(64, "Words of a text that the network gets.")
    vocabulary: int = option(20_000, "Numbers for words, with padding and unknown ones.")
    target_kind: str = option("auto", "classes, number, or auto: classes if it is text.")
    batch_size: int = option(32, "Rows per training batch.")
    eval_batch_size: Optional[int] = option(None, "The same for evaluation; null: large.")
    resident: Optional[bool] = option(None, "Keep the data on the device; null: if they fit.")
    shuffle: bool = option(True, "Draw a new order in every epoch.")


@dataclass
class OwnConfig:
    """Sets of your own, each a node with a `_target_`; see `framework.Data`."""

    _target_: str = "framework.data.Data"
    _partial_: bool = True
    train: Any = None
    val: Any = None
    test: Any = None
    predict: Any = None
    workers: int = option(0, "Processes that read sets with an index; 0: a thread.")
    batch_size: int = option(32, "Rows per training batch.")
    eval_batch_size: Optional[int] = option(None, "The same for evaluation; null: large.")
    resident: Optional[bool] = option(None, "Keep the data on the device; null: if they fit.")
    shuffle: bool = option(True, "Draw a new order in every epoch.")
    val_fraction: float = option(0.0, "Fraction of the training rows to validate on.")


DATA: dict[str, Any] = {
    "none": {},
    **{n: DataConfig(name=n) for n in ("mnist", "fashion_mnist", "cifar10", "cifar100")},
    "image_folder": FolderConfig,
    "table": TableConfig,
    "own": OwnConfig,
}
