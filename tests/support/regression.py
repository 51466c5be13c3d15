"""A task and data for the tests of what checkpoints hold."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework import Data, Task

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4") * 10 + 5
Y = X @ np.array([[0.1], [0.2], [0.3]], "f4")


class Regression(Task):
    """Learns Y from X; `layers` go before the network, if there are any."""

    layers: Any = staticmethod(lambda adapted: [])

    def __init__(self, adapted: bool = True) -> None:
        super().__init__(optimizer="sgd")
        self.adapted = adapted

    def build_model(self) -> Any:
        dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
        return keras.Sequential([keras.Input((3,)), *self.layers(self.adapted), dense])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", (self.model(batch[0]) - batch[1]) ** 2)


def data(x: Any = X) -> Data:
    return Data(train=(x, Y), test=(x, Y), batch_size=8, shuffle=False)
