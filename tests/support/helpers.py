"""Small tasks, data and trainers for the tests of the core."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework import Callback, Data, Every, Logger, Task, Trainer, random

FEATURES, CLASSES = 6, 3


def make_trainer(**options: Any) -> Trainer:
    """A trainer that prints and measures nothing."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "engine": "graph"}
    return Trainer(**{**quiet, **options})


def blobs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of float32 features and learnable int64 labels."""
    random = np.random.RandomState(seed)
    x = random.randn(rows, FEATURES).astype("float32")
    y = (x @ np.random.RandomState(99).randn(FEATURES, CLASSES)).argmax(-1)
    return x, y


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)])


def noisy() -> keras.Model:
    """Everything that keeps state beside weights: batch norm, and dropout's seed generator."""
    return keras.Sequential(
        [
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(CLASSES),
        ]
    )


def cross_entropy(y: Any, logits: Any) -> tf.Tensor:
    return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


class Net(Task):
    """Softmax regression, or whatever network `build` makes."""

    def __init__(self, build: Callable[[], Any] = dense, **parts: Any) -> None:
        super().__init__(**parts)
        self.build = build

    def build_model(self) -> Any:
        return self.build()

    def train_step(self, batch: Any) -> tf.Tensor:
        x, y = batch
        logits = self.model(x, training=True)
        self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, logits))
        return tf.reduce_mean(cross_entropy(y, logits))

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        logits = self.model(x, training=False)
        self.log("loss", cross_entropy(y, logits))
        self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, logits))


def jitter(batch: Any, seed: tf.Tensor) -> Any:
    """An augmentation: noise that depends on the seed alone."""
    x, y = batch
    return x + random.normal(tf.shape(x), seed, stddev=0.1), y


def busy_data(rows: int = 103, **changes: Any) -> Data:
    """Shuffled, augmented, with a ragged last batch."""
    options = {"batch_size": 8, "augment": jitter, "val": blobs(21, seed=1), **changes}
    return Data(train=blobs(rows), **options)


class Rows(Logger):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        self.rows.append((step, epoch, dict(metrics)))


class LogRows(Callback):
    """Keeps every row of training metrics with its step; needs no run directory."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.val: list[tuple[int, dict[str, float]]] = []

    def on_log(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.rows.append((trainer.progress.step, dict(metrics)))

    def on_validation_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.val.append((trainer.progress.step, dict(metrics)))


class StopAt(Callback):
    """Stops a run after a step, as a time limit would."""

    def __init__(self, step: int) -> None:
        self.step, self.every = step, Every("1st")

    def on_wake(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            trainer.stop("as told")


class Initial(Callback):
    """Keeps the weights that training began with."""

    def on_fit_start(self, trainer: Trainer) -> None:
        self.weights = trainer.task.model.get_weights()


def bits(trainer: Trainer) -> dict[str, bytes]:
    """The bytes of every weight, optimizer slot, seed generator and loss scale."""
    found: dict[str, bytes] = {}

    def collect(tree: Any, path: str) -> None:
        if isinstance(tree, (Mapping, list)):
            pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
            for key, value in pairs:
                collect(value, f"{path}/{key}")
        else:
            found[path] = np.asarray(tree).tobytes()

    state = trainer.state()
    for part in ("models", "task", "averages", "optimizers", "loss_scale"):
        collect(state[part], part)
    return found


def differing(left: Trainer | dict[str, bytes], right: Trainer | dict[str, bytes]) -> list[str]:
    """Names of the parts whose bits differ; for an assertion that says which."""
    left = left if isinstance(left, dict) else bits(left)
    right = right if isinstance(right, dict) else bits(right)
    assert left.keys() == right.keys()
    return [name for name in left if left[name] != right[name]]


def fitted(task: Task, data: Data, **options: Any) -> Trainer:
    trainer = make_trainer(**options)
    trainer.fit(task, data)
    return trainer


class Counting(Callback):
    def __init__(self, by: int = 1) -> None:
        self._by, self.count = by, 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.count += self._by

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: Any) -> None:
        self.count = state["count"]


def acts(text: str) -> list[str]:
    """Characters that a terminal would act on, rather than show."""
    kinds = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        c
        for c in text.replace("\n", "").replace("\t", "")
        if c < " "
        or "\x7f" <= c < "\xa0"
        or unicodedata.bidirectional(c) in kinds | {"B"}
        or "\ud800" <= c < "\ue000"
        or c == "\u2028"
    ]
