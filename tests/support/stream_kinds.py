"""The same rows as streams of several kinds, and tasks that keep what they are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from helpers import Net, blobs

from framework import Task


class Passed(Task):
    """Keeps the batch's structure, and returns a loss of one weight."""

    def build_model(self) -> keras.Model:
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def train_step(self, batch: Any) -> Any:
        self.batch = batch
        return tf.reduce_sum(self.model(tf.ones((1, 1))))

    def eval_step(self, batch: Any) -> None:
        self.log("seen", 1.0)


class Order(Net):
    """Keeps the first feature of every row that it trains on; for the eager engine."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[float]] = []

    def train_step(self, batch: Any) -> Any:
        self.batches.append(batch[0][:, 0].numpy().tolist())
        return super().train_step(batch)


X, Y = blobs(11)


def generator() -> Iterator[Any]:
    for start in range(0, 11, 4):
        yield X[start : start + 4], Y[start : start + 4]


def known() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def unknown() -> tf.data.Dataset:
    return known().filter(lambda *_: True)


class Batches(keras.utils.PyDataset):
    """Three batches whose order turns round after each epoch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.order = [0, 1, 2]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        rows = slice(4 * self.order[index], 4 * self.order[index] + 4)
        return X[rows], Y[rows]

    def on_epoch_end(self) -> None:
        self.order = self.order[::-1]


IN_ORDER = [X[0:4, 0].tolist(), X[4:8, 0].tolist(), X[8:, 0].tolist()]
