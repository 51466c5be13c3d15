"""`data=`: the built-in image data sets."""

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


DATA: dict[str, Any] = {
    "none": {},
    **{n: DataConfig(name=n) for n in ("mnist", "fashion_mnist", "cifar10", "cifar100")},
}
