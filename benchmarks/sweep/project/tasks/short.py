"""A short job of a sweep, which may wait, and may raise."""

from __future__ import annotations

import os
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework import Data, Task


class Short(Task):
    """Learn a sum; the job with the number `raises` fails in its second epoch.

    `SHORT_PAUSE` says how many seconds it waits before each epoch.
    """

    def __init__(self, number: int, raises: int = -1, **parts: Any) -> None:
        super().__init__(**parts)
        self.number, self.raises = number, raises
        self.epochs = 0

    def build_data(self) -> Data:
        x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
        y = x.sum(1, keepdims=True)
        return Data(train=(x, y), val=(x[:40], y[:40]), test=(x[40:80], y[40:80]), batch_size=10)

    def build_model(self) -> Any:
        dense, dropout = keras.layers.Dense, keras.layers.Dropout
        return keras.Sequential([dense(16, activation="relu"), dropout(0.2), dense(1)])

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        return tf.reduce_mean((self.model(x, training=True) - y) ** 2)

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        self.log("error", (self.model(x) - y) ** 2)

    def on_epoch_start(self) -> None:
        time.sleep(float(os.environ.get("SHORT_PAUSE", "0")))
        self.epochs += 1
        if self.epochs > 1 and self.number == self.raises:
            raise RuntimeError("this job was asked to fail")
