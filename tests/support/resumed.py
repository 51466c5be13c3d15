"""Runs and streams for the tests of continuing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from helpers import Net, blobs, busy_data, make_trainer, noisy

from framework import Callback
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger


class Noisy(Net):
    """Draws from a generator of its own and from Keras's global one."""

    def build_model(self) -> Any:
        self.noise = [keras.random.SeedGenerator(3)]
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        x = x + 0.1 * keras.random.normal(tf.shape(x), seed=self.noise[0])
        return super().train_step((x + 0.1 * keras.random.normal(tf.shape(x)), y))


def run(run_dir: Path | None, *callbacks: Callback, data: Any = None, **options: Any) -> Any:
    """13 steps an epoch, validated at every fifth step, in mid-epoch too."""
    given = {"max_epochs": 2, "log_every": "4st", "val_every": "5st", "run_dir": run_dir}
    loggers = [CSVLogger(), TensorBoardLogger()] if run_dir else []
    trainer = make_trainer(callbacks=list(callbacks), loggers=loggers, **given | options)
    task = Noisy(noisy, optimizer=lambda: keras.optimizers.Adam(1e-2))
    trainer.fit(task, busy_data() if data is None else data)
    return trainer


def seeded() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(blobs(40)).shuffle(40, seed=5).batch(8).prefetch(1)


def nested() -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices(blobs(20))
    return rows.shuffle(20, seed=1).repeat(2).shuffle(9, seed=2).batch(8)
