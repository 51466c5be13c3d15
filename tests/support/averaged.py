"""Networks, data and runs for the tests of averages, plateaus and schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from helpers import FEATURES, Net, blobs, make_trainer

from framework import Callback, Data, Task, Trainer

STEPS = 4  # in an epoch of `plain_data`


class Recorder(Callback):
    """Keeps the weights before the first step, after every step, and after every epoch."""

    def __init__(self) -> None:
        self.steps: list[list[np.ndarray]] = []
        self.epochs: list[list[np.ndarray]] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.first = trainer.task.model.get_weights()

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.steps.append(trainer.task.model.get_weights())

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.epochs.append(trainer.task.model.get_weights())


def normed() -> keras.Model:
    """Weights and batch-norm statistics, without dropout: what it computes is a function."""
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(3)])


def plain_data(**changes: Any) -> Data:
    """4 batches of 8 rows, in the same order in every epoch."""
    options = {"batch_size": 8, "shuffle": False, "val": blobs(24, seed=1), **changes}
    return Data(train=blobs(8 * STEPS), **options)


def sgd(rate: Any = 0.1, **options: Any) -> Callable[[], keras.Optimizer]:
    return lambda: keras.optimizers.SGD(rate, **options)


def fit(task: Task, *callbacks: Callback, data: Data | None = None, **options: Any) -> Trainer:
    trainer = make_trainer(callbacks=callbacks, **{"max_epochs": 3, **options})
    trainer.fit(task, data or plain_data())
    return trainer


class Halves(Net):
    """An optimizer for the hidden part of `normed`, another one for its output."""

    def __init__(self, body: Any, head: Any) -> None:
        super().__init__(normed)
        self._pair = body, head

    def configure_optimizers(self) -> Any:
        *body, head = self.model.layers
        return {"body": (self._pair[0](), body), "head": (self._pair[1](), head)}


def closed_form(peak: float, warm: int, end: float, total: int, at: np.ndarray) -> np.ndarray:
    done = np.clip((at - warm) / (total - warm), 0, 1)
    cosine = end + (peak - end) * (1 + np.cos(np.pi * done)) / 2
    return np.where(at < warm, peak * at / max(warm, 1), cosine)
