"""Variation of training images, in the graph and without state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from framework.errors import UserError


@dataclass(frozen=True)
class Augment:
    """Flips, shifts, blanks and shades images, each in its own way.

    All randomness comes from the seed, by TensorFlow's stateless operations, so that a batch is
    varied in the same way whenever it is made: compiled or not, resumed or not.

    Example:
        >>> Data(train=(images, labels), augment=Augment(flip=True, crop=4))

    Args:
        flip: Mirror half of the images left to right.
        crop: Shift by up to this many pixels each way; what is uncovered is 0.
        cutout: Blank a square of this many pixels (DeVries & Taylor, 2017).
        brightness: Add up to this part of the full range, either way.
        contrast: Scale the distance from the image's mean by up to 1 plus or minus this.

    Raises:
        UserError: A value is out of its range.
    """

    flip: bool = False
    crop: int = 0
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "cutout"):
            if getattr(self, name) < 0:
                _refuse(name, getattr(self, name), "0 (off) or a number of pixels")
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                _refuse(name, value, "0 (off) up to 1")

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self != Augment()

    def __call__(self, batch: Any, seed: tf.Tensor) -> Any:
        """Return the batch with its first tensor, the images, varied.

        Args:
            batch: A nest whose first leaf holds images of shape [batch, height, width] or
                [batch, height, width, channels], float in 0..1 or uint8.
            seed: An int64 tensor of shape [2].

        Returns:
            The same nest; images keep their shape and dtype, all else is untouched.
        """
        images, *rest = tf.nest.flatten(batch)
        shape, dtype = images.shape, images.dtype
        top = 255.0 if dtype.is_integer else 1.0
        flat = images.shape.rank == 3
        images = tf.cast(images[..., None] if flat else images, tf.float32)
        draws = _Draws(seed, tf.shape(images)[0])
        if self.flip:
            mirrored = draws.uniform() < 0.5
            images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if self.crop:
            images = self._shift(images, draws)
        if self.contrast:
            factor = 1.0 + self.contrast * draws.signed()[:, None, None, None]
            mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
            images = (images - mean) * factor + mean
        if self.brightness:
            images += top * self.brightness * draws.signed()[:, None, None, None]
        if self.contrast or self.brightness:
            images = tf.clip_by_value(images, 0.0, top)
        if self.cutout:
            images = self._cut_out(images, draws)
        images = tf.cast(tf.round(images) if dtype.is_integer else images, dtype)
        images = tf.ensure_shape(images[..., 0] if flat else images, shape)
        return tf.nest.pack_sequence_as(batch, [images, *rest])

    def _shift(self, images: tf.Tensor, draws: _Draws) -> tf.Tensor:
        height, width = images.shape[1], images.shape[2]
        pad = self.crop
        padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        rows = draws.integers(2 * pad + 1)[:, None] + tf.range(height)
        columns = draws.integers(2 * pad + 1)[:, None] + tf.range(width)
        return tf.gather(tf.gather(padded, rows, batch_dims=1), columns, axis=2, batch_dims=1)

    def _cut_out(self, images: tf.Tensor, draws: _Draws) -> tf.Tensor:
        inside = []
        for length in (images.shape[1], images.shape[2]):
            start = draws.integers(length)[:, None] - self.cutout // 2
            place = tf.range(length)[None]
            inside.append((place >= start) & (place < start + self.cutout))
        blank = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return tf.where(blank, 0.0, images)


class _Draws:
    """One stateless draw for each example after the other."""

    def __init__(self, seed: tf.Tensor, count: tf.Tensor) -> None:
        self._seed, self._count, self._number = tf.cast(seed, tf.int64), count, 0

    def uniform(self) -> tf.Tensor:
        """Return floats in [0, 1), one for each example."""
        self._number += 1
        # The number of the draw keeps two draws apart; Philox gives the same bits under XLA.
        seed = self._seed + tf.constant([self._number * 2**32, 0], tf.int64)
        return tf.random.stateless_uniform([self._count], seed, alg="philox")

    def signed(self) -> tf.Tensor:
        """Return floats in [-1, 1)."""
        return 2.0 * self.uniform() - 1.0

    def integers(self, below: int) -> tf.Tensor:
        """Return whole numbers from 0 to `below` - 1."""
        return tf.minimum(tf.cast(self.uniform() * below, tf.int32), below - 1)


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"data.augment.{name}", fix=f"Give {wanted}.")
