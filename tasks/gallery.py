"""The shared base of the gallery's tasks: pictures for TensorBoard, and reproducible randomness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from framework import Callback, Data, Every, Task, Trainer, random


class Gallery(Task):
    """Show in pictures what the task has learned; subclasses return them from `pictures`.

    Args:
        model: The networks' hyperparameters; see `conf/model/`.
        pictures: The number of test images to show.
        pictures_every: When to show them, such as `1ep` or `500st`.
        seed: The seed of the pictures.
        **parts: data, optimizer, loss and metrics; the arguments of `Task`.

    Attributes:
        shown: The first test images, in the network's input format.
    """

    def __init__(
        self,
        model: Any = None,
        pictures: int = 64,
        pictures_every: str = "1ep",
        seed: int = 0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.network, self.count, self.every, self.seed = model, pictures, pictures_every, seed
        self.shown: Any = None

    def build_data(self) -> Data:
        """Return the data, and store the images to show."""
        data = super().build_data()
        batch = tuple(part[: self.count] for part in data.test)
        self.shown = (data.map(batch) if data.map else batch)[0]
        return data

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callback that logs the pictures."""
        return [Pictures(self.every)]

    def pictures(self) -> dict[str, Any]:
        """Return the images for `Trainer.log_images`, by name."""
        raise NotImplementedError

    def fixed_noise(self, width: int) -> tf.Tensor:
        """Return the same normal numbers in every call, one row per picture."""
        return random.normal([self.count, width], [self.seed, 0])

    def noise(self, images: tf.Tensor, width: int, draw: int = 0) -> tf.Tensor:
        """Return new normal numbers, one row per image; see `Task.step_seed`."""
        return random.normal([tf.shape(images)[0], width], self.step_seed(draw))


class Pictures(Callback):
    """Log a task's pictures regularly, and at the end.

    Args:
        every: When, such as `1ep` or `500st`.
    """

    def __init__(self, every: str) -> None:
        self.every, self._step = Every(every), -1

    def on_wake(self, trainer: Trainer) -> None:
        """Log the pictures of this step, once."""
        if self._step != trainer.progress.step:
            self._step = trainer.progress.step
            for name, images in trainer.task.pictures().items():
                trainer.log_images(name, images)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Log the final pictures, unless training failed."""
        if trainer.status != "failed":
            self.on_wake(trainer)


def photo_encoder(filters: Sequence[int], kernel_size: int) -> keras.Sequential:
    """Return a network for 32x32 photographs: convolution, batch norm and pooling per entry."""
    blocks: list[Any] = [keras.Input((32, 32, 3))]
    for count in filters:
        blocks.append(layers.Conv2D(count, kernel_size, padding="same", use_bias=False))
        blocks += [layers.BatchNormalization(momentum=0.9), layers.ReLU(), layers.MaxPooling2D()]
    return keras.Sequential(blocks)


def digit_decoder(latent: int, filters: Sequence[int], kernel_size: int) -> keras.Sequential:
    """Return a network from codes to the logits of 28x28 pixels, doubling the size per entry."""
    side = 28 // 2 ** len(filters)
    blocks: list[Any] = [keras.Input((latent,)), layers.Dense(side * side * filters[0])]
    blocks.append(layers.Reshape((side, side, filters[0])))
    for count in [*filters[1:], 1]:
        blocks += [layers.BatchNormalization(), layers.ReLU()]
        blocks.append(layers.Conv2DTranspose(count, kernel_size, 2, "same"))
    blocks.append(layers.Activation("linear", dtype=keras.config.floatx()))
    return keras.Sequential(blocks, name="decoder")


def sheet(images: Any, columns: int = 8) -> np.ndarray:
    """Arrange images of shape [count, height, width, channels] in a grid, row by row.

    Example:
        >>> sheet(np.zeros((10, 28, 28, 1)), columns=4).shape
        (1, 84, 112, 1)
    """
    images = np.asarray(images, np.float32)
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    whole = np.zeros((rows * columns, height, width, channels), np.float32)
    whole[:count] = images
    grid = whole.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(1, rows * height, columns * width, channels)


def alternating(left: Any, right: Any) -> Any:
    """Interleave two arrays: the first of `left`, the first of `right`, and so on."""
    return tf.reshape(tf.stack([left, right], axis=1), [-1, *left.shape[1:]])
