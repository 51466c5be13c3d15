"""Augments images inside the compiled loop, from a seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import keras
import tensorflow as tf

from framework.datasets.keras_layers import apply_layers
from framework.errors import UserError
from framework.random import fold, uniform

# Random numbers of each example, by column: flip, crop down and right, contrast, brightness,
# cutout down and right. All are always drawn, so one option does not change the others' numbers.
_DRAWS = 7
_LAYERS = 1  # the fold of the seed that layers draw from


@dataclass(frozen=True)
class Augment:
    """Augment training images at random; give it to `Data(augment=...)`.

    The steps run in this order: flip, crop, contrast, brightness, cutout, layers. Every example
    has its own random numbers, which depend on the seed alone and are the same with and without
    XLA. The same seed gives the same batch in every run and engine; with layers, in every run.

    Example:
        >>> augment = Augment(flip=True, crop=4)
        >>> images, labels = augment((images, labels), tf.constant([0, 1], tf.int64))

    Args:
        flip: Mirror each image left to right with a probability of one half.
        crop: Pad every side with this many pixels of 0, then crop a window of the original size
            at a random position. 0 is off.
        cutout: Set a square with this side in pixels to 0. Its centre is a random pixel of the
            image, so part of the square may be outside. 0 is off.
        brightness: Add a number from -brightness to +brightness, in parts of full brightness
            (1.0, or 255 for whole-number pixels), and clip to the range. From 0 (off) to 1.
        contrast: Multiply the distance from the mean of each channel by a number from
            1 - contrast to 1 + contrast, and clip to the range. From 0 (off) to 1.
        layers: Keras's preprocessing layers, or your own, in order; see `apply_layers`.

    Raises:
        UserError: If a value is out of range.
    """

    flip: bool = False
    crop: int = 0
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    layers: Sequence[keras.Layer] = ()

    def __post_init__(self) -> None:
        flip: object = self.flip  # any type, whatever the annotation says
        if not isinstance(flip, bool):
            _refuse("flip", flip, "true or false")
        for name in ("crop", "cutout"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                _refuse(name, value, "a whole number of pixels, 0 (off) or more")
        for name in ("brightness", "contrast"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value <= 1:
                _refuse(name, value, "a number from 0 (off) to 1")
        layers: object = self.layers
        if isinstance(layers, (str, Mapping)) or not isinstance(layers, Sequence):
            _refuse("layers", layers, "a list of layers")
        for each in self.layers:
            if not isinstance(each, keras.Layer):
                _refuse("layers", each, "layers, such as {_target_: keras.layers.RandomZoom, ...}")

    @property
    def enabled(self) -> bool:
        """Whether any option is on."""
        return any(getattr(self, each.name) for each in fields(self))

    def __call__(self, batch: Any, seed: tf.Tensor) -> Any:
        """Augment the images of a batch.

        Args:
            batch: A nest with the images as its first leaf, of shape (B, H, W) or (B, H, W, C),
                floats in 0..1 or whole numbers in 0..255. Only layers change other leaves.
            seed: Whole numbers of shape (2,).

        Returns:
            A nest of the same structure, shapes and dtypes.

        Raises:
            UserError: If the first leaf is not a batch of images, or is too small for an option.
        """
        if not self.enabled:
            return batch
        leaves = tf.nest.flatten(batch)
        images = tf.convert_to_tensor(leaves[0])
        if images.shape.rank not in (3, 4):
            raise UserError(
                f"augmentation needs images, and the first of the batch has shape {images.shape}",
                where="data.augment",
                fix="Give images of shape (B, height, width) or (B, height, width, channels).",
            )
        self._check_size(images)
        varied = self._vary(images if images.shape.rank == 4 else images[..., tf.newaxis], seed)
        varied = tf.ensure_shape(varied if images.shape.rank == 4 else varied[..., 0], images.shape)
        batch = tf.nest.pack_sequence_as(batch, [varied, *leaves[1:]])
        return apply_layers(self.layers, batch, fold(seed, _LAYERS)) if self.layers else batch

    def _check_size(self, images: tf.Tensor) -> None:
        sides = [side for side in images.shape[1:3] if side is not None]
        for name in ("crop", "cutout"):
            value = getattr(self, name)
            if sides and value > min(sides):
                _refuse(name, value, f"at most the images' shorter side, {min(sides)} pixels")

    def _vary(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        draws = tf.unstack(uniform([count, _DRAWS], seed), axis=1)
        flip, down, right, contrast, brightness, centre_y, centre_x = draws
        if self.flip:
            images = tf.where(_each(flip < 0.5), tf.reverse(images, [2]), images)
        if self.crop:
            images = _shift(images, _below(down, 2 * self.crop + 1) - self.crop, axis=1)
            images = _shift(images, _below(right, 2 * self.crop + 1) - self.crop, axis=2)
        if self.contrast or self.brightness:
            images = self._relight(images, 2 * contrast - 1, 2 * brightness - 1)
        if self.cutout:
            inside_y = _inside(centre_y, tf.shape(images)[1], self.cutout)
            inside_x = _inside(centre_x, tf.shape(images)[2], self.cutout)
            hole = (inside_y[:, :, tf.newaxis] & inside_x[:, tf.newaxis, :])[..., tf.newaxis]
            images = tf.where(hole, tf.zeros([], images.dtype), images)
        return images

    def _relight(self, images: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
        """Change contrast and brightness by draws from -1..1, of shape (B,)."""
        whole = images.dtype.is_integer
        full = 255.0 if whole else 1.0
        exact = tf.float64 if images.dtype == tf.float64 else tf.float32
        light = tf.cast(images, exact)
        if self.contrast:
            mean = tf.reduce_mean(light, axis=[1, 2], keepdims=True)
            factor = _each(1 + self.contrast * tf.cast(contrast, exact))
            light = tf.clip_by_value(mean + (light - mean) * factor, 0.0, full)
        if self.brightness:
            shift = _each(full * self.brightness * tf.cast(brightness, exact))
            light = tf.clip_by_value(light + shift, 0.0, full)
        return tf.cast(tf.round(light) if whole else light, images.dtype)


def _each(values: tf.Tensor) -> tf.Tensor:
    """Reshape (B,) to (B, 1, 1, 1)."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _below(uniform: tf.Tensor, limit: int | tf.Tensor) -> tf.Tensor:
    """Convert numbers from [0, 1) to whole numbers from 0 to limit - 1."""
    return tf.cast(tf.floor(uniform * tf.cast(limit, tf.float32)), tf.int32)


def _shift(images: tf.Tensor, offset: tf.Tensor, axis: int) -> tf.Tensor:
    """Shift image i by -offset[i] pixels along an axis, and fill the edge with zeros."""
    side = tf.shape(images)[axis]
    place = tf.range(side)[tf.newaxis, :] + offset[:, tf.newaxis]
    moved = tf.gather(images, tf.clip_by_value(place, 0, side - 1), axis=axis, batch_dims=1)
    shown = (place >= 0) & (place < side)
    shown = (
        shown[:, :, tf.newaxis, tf.newaxis] if axis == 1 else shown[:, tf.newaxis, :, tf.newaxis]
    )
    return tf.where(shown, moved, tf.zeros([], images.dtype))


def _inside(centre: tf.Tensor, side: tf.Tensor, length: int) -> tf.Tensor:
    """Return which positions of a side are in a segment of `length` around a random centre."""
    start = _below(centre, side) - length // 2
    place = tf.range(side)[tf.newaxis, :] - start[:, tf.newaxis]
    return (place >= 0) & (place < length)


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"data.augment.{name}", fix=f"Give {wanted}.")
