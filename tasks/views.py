"""Views of images for contrastive learning: random changes that keep the content."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from framework import random


@dataclass(frozen=True)
class Views:
    """Crop, mirror and recolour images at random, as a function of a seed.

    Example:
        >>> Views(crop=0.6)(images, tf.constant([0, 1], tf.int64))

    Args:
        crop: The smallest side of a crop, relative to the image; the crop is then enlarged again.
        light: The range for scaling the brightness of an image, up or down.
        colour: The same for each channel.
        grey: The fraction of images that lose their colour.
    """

    crop: float = 0.5
    light: float = 0.4
    colour: float = 0.2
    grey: float = 0.2

    def __call__(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Return one view per image, of shape [batch, height, width, channels] and in 0..1."""
        count = tf.shape(images)[0]
        draws = random.uniform([count, 10], seed)
        side = self.crop + (1 - self.crop) * draws[:, 0:2]
        start = (1 - side) * draws[:, 2:4]
        (top, left), (bottom, right) = (tf.unstack(at, axis=1) for at in (start, start + side))
        mirrored = draws[:, 4] < 0.5
        # A box with its right side first mirrors the crop.
        first, last = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
        boxes = tf.stack([top, first, bottom, last], axis=1)
        view = tf.image.crop_and_resize(images, boxes, tf.range(count), tf.shape(images)[1:3])
        drained = tf.reshape(draws[:, 5] < self.grey, [-1, 1, 1, 1])
        view = tf.where(drained, tf.reduce_mean(view, axis=3, keepdims=True), view)
        light = self.light * (2 * draws[:, 6:7] - 1) + self.colour * (2 * draws[:, 7:10] - 1)
        return tf.clip_by_value(view * (1 + light[:, tf.newaxis, tf.newaxis]), 0.0, 1.0)
