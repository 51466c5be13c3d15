"""A small run with everything on that keeps state, slow enough to be hit anywhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework import Callback, Data, Every, Task

ROWS, FEATURES, CLASSES = 330, 12, 4


class Everything(Task):
    """Shuffled, augmented, normalised, dropped out, accumulated, averaged; see its conf.

    Args:
        pause: Seconds to wait after each step.
        width: Units of the hidden layer: what makes a checkpoint large.
        marks: Leave a file `validating` beside the run while it validates.
        **parts: See `Task`.
    """

    def __init__(self, pause: float = 0.0, width: int = 64, marks: bool = False, **parts: Any):
        super().__init__(**parts)
        self.pause, self.width, self.marks = pause, width, marks

    def build_data(self) -> Data:
        def blobs(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
            random = np.random.RandomState(seed)
            x = random.randn(rows, FEATURES).astype("float32")
            y = (x @ np.random.RandomState(99).randn(FEATURES, CLASSES)).argmax(-1)
            return x, y

        def jitter(batch: Any, seed: tf.Tensor) -> Any:
            x, y = batch
            return x + tf.random.stateless_normal(tf.shape(x), seed, stddev=0.3), y

        return Data(
            train=blobs(ROWS, 0), val=blobs(50, 1), test=blobs(50, 2), batch_size=8, augment=jitter
        )

    def build_model(self) -> keras.Model:
        self.noise = keras.random.SeedGenerator(7)
        self.seen = self.variable("seen", tf.zeros((), tf.int64))
        return keras.Sequential(
            [
                keras.layers.Dense(self.width),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(CLASSES, dtype="float32"),
            ]
        )

    def train_step(self, batch: Any) -> tf.Tensor:
        x, y = batch
        x = x + 0.1 * keras.random.normal(tf.shape(x), seed=self.noise)
        x = x + 0.1 * keras.random.normal(tf.shape(x))  # by Keras's own, global seed
        self.seen.assign(self.seen.value + tf.shape(x, tf.int64)[0])
        logits = self.model(x, training=True)
        self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, logits))
        return tf.reduce_mean(_loss(y, logits))

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        logits = self.model(x, training=False)
        self.log("loss", _loss(y, logits))
        self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, logits))

    def configure_callbacks(self) -> list[Callback]:
        return [Pausing(self.pause, self.marks)]


class Pausing(Callback):
    """Waits after every step, and says from outside visibly when it validates."""

    def __init__(self, pause: float, marks: bool) -> None:
        self.pause, self.marks = pause, marks
        self.every = Every("1st") if pause else None

    def on_wake(self, trainer: Any) -> None:
        time.sleep(self.pause)

    def on_validation_start(self, trainer: Any) -> None:
        if self.marks and trainer.run_dir:
            Path(f"{trainer.run_dir}.validating").touch()
            time.sleep(0.01)

    def on_validation_end(self, trainer: Any, metrics: Any) -> None:
        if self.marks and trainer.run_dir:
            Path(f"{trainer.run_dir}.validating").unlink(missing_ok=True)


def _loss(y: Any, logits: Any) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
