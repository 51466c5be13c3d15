"""The ways to train that are compared.

Each prepares itself once (building, tracing, filling its shuffle buffer and running a few steps)
and is then timed again and again. All train with Adam at its defaults, sparse categorical
cross-entropy, accuracy, and batches shuffled anew every epoch.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks.workloads import BATCH, Workload, divided
from framework import Callback, Trainer
from framework.callbacks.progress_bar import ProgressBar
from framework.engine.every import Every
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger

WARM_STEPS = 500

# Trains that many steps and returns the seconds they took.
Run = Callable[[int], float]


class _Stopwatch(Callback):
    """Times training from inside: from step `first`, wake-ups and all, to the last."""

    def __init__(self, first: int) -> None:
        self.every = Every(f"{first}st")
        self._began: float | None = None
        self.seconds = 0.0

    def on_wake(self, trainer: Trainer) -> None:
        if self._began is None:
            self._began = time.perf_counter()
            self.every = None

    def on_fit_end(self, trainer: Trainer) -> None:
        assert self._began is not None
        self.seconds = time.perf_counter() - self._began


def framework(workload: Workload) -> Run:
    """This framework: progress bar, CSV and TensorBoard every 50 steps; no checkpoints.

    Checkpoints are off because none of the others saves any.
    """

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=False)

    return run


def framework_quiet(workload: Workload) -> Run:
    """This framework with nobody listening: no logger, no progress, no log row but the last."""

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=True)

    return run


def two_devices(workload: Workload) -> Run:
    """This framework on two logical devices, which have the cores of one between them."""

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=False, devices=2)

    return run


def _fit(workload: Workload, steps: int, *, quiet: bool, devices: int = 1) -> float:
    # Tracing is part of every fit, so each one warms itself up before its watch starts.
    watch = _Stopwatch(WARM_STEPS)
    task = workload.task(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=120)
        listeners: dict[str, Any] = {
            "callbacks": [watch, ProgressBar(console, live=True)],
            "loggers": [CSVLogger(), TensorBoardLogger()],
        }
        if quiet:
            listeners = {
                "callbacks": [watch],
                "log_every": "1000000000st",
                "enable_progress_bar": False,
                "stop_on_nan": False,
            }
        Trainer(
            run_dir=Path(directory) / "run",
            max_steps=WARM_STEPS + steps,
            enable_model_summary=False,
            enable_checkpointing=False,
            devices=devices,
            **listeners,
        ).fit(task, workload.data)
    return watch.seconds


class _FitWatch(keras.callbacks.Callback):
    """Times `Model.fit` from inside, from its first batch to its last."""

    def __init__(self) -> None:
        super().__init__()
        self.began: float | None = None
        self.seconds = 0.0
        self.steps = -1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.began is None:
            self.began = time.perf_counter()
        self.steps += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.began is not None
        self.seconds = time.perf_counter() - self.began


def fit(workload: Workload) -> Run:
    """`Model.compile` and `Model.fit` at their defaults, on NumPy arrays scaled beforehand."""
    model = workload.build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = workload.floats(), workload.y

    def run(steps: int) -> float:
        # One epoch of just these steps, over rows from anywhere: what is timed is not its start.
        watch = _FitWatch()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            per_epoch = min(steps + 1, len(x) // BATCH)
            epochs = -(-(steps + 1) // per_epoch)
            model.fit(
                x, y, batch_size=BATCH, epochs=epochs, steps_per_epoch=per_epoch, callbacks=[watch]
            )
        return watch.seconds * steps / watch.steps

    run(16)
    return run


def per_step(workload: Workload) -> Run:
    """A hand-written `tf.function` of one step, called from a Python loop over a `tf.data`."""
    step, metrics = _step(workload)
    compiled = tf.function(step)
    batches = iter(_dataset(workload))

    def run(steps: int) -> float:
        compiled(*next(batches))  # see `_in_calls`
        began = time.perf_counter()
        for _ in range(steps):
            images, labels = next(batches)
            compiled(images, labels)
        _ = [float(metric.result()) for metric in metrics]
        return time.perf_counter() - began

    run(WARM_STEPS)
    return run


def range_loop(workload: Workload) -> Run:
    """A hand-written `tf.range` loop over a `tf.data` iterator, inside one `tf.function`."""
    step, metrics = _step(workload)
    batches = iter(_dataset(workload))

    @tf.function
    def many(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            step(*next(batches))

    return _in_calls(many, metrics, workload)


def gather_loop(workload: Workload) -> Run:
    """The same without `tf.data`: batches gathered from tensors, in an order drawn per epoch."""
    step, metrics = _step(workload)
    x, y = tf.constant(workload.x), tf.constant(workload.y)
    rows = len(workload.x)
    order = tf.Variable(tf.random.shuffle(tf.range(rows, dtype=tf.int64)))
    at = tf.Variable(0, dtype=tf.int64)

    @tf.function
    def many(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            if at + BATCH > rows:
                order.assign(tf.random.shuffle(order))
                at.assign(0)
            place = order[at : at + BATCH]
            place.set_shape((BATCH,))
            at.assign_add(BATCH)
            batch = tf.gather(x, place), tf.gather(y, place)
            step(*(divided(batch) if workload.scale else batch))

    return _in_calls(many, metrics, workload)


def _in_calls(many: Callable[[Any], None], metrics: list[keras.Metric], workload: Workload) -> Run:
    most = workload.steps_per_call

    def run(steps: int) -> float:
        # Setting a seed, as a run of the framework does before its own watch starts, makes
        # TensorFlow prepare every function once more at its next call.
        many(tf.constant(1))
        began = time.perf_counter()
        for start in range(0, steps, most):
            many(tf.constant(min(most, steps - start)))
            _ = [float(metric.result()) for metric in metrics]
        return time.perf_counter() - began

    run(WARM_STEPS)
    return run


def _step(workload: Workload) -> tuple[Callable[[Any, Any], None], list[keras.Metric]]:
    if workload.step is not None:
        return workload.step()
    model = workload.build()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy()
    mean, accuracy = keras.metrics.Mean(), keras.metrics.SparseCategoricalAccuracy()

    def step(images: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            loss = loss_of(labels, probabilities)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        mean.update_state(loss)
        accuracy.update_state(labels, probabilities)

    return step, [mean, accuracy]


def _dataset(workload: Workload) -> tf.data.Dataset:
    # Shuffling and batching row numbers, and taking whole batches from a tensor, was the fastest
    # of the usual pipelines on both workloads.
    x, y = tf.constant(workload.x), tf.constant(workload.y)
    rows = len(workload.x)

    def take(place: tf.Tensor) -> Any:
        batch = tf.gather(x, place), tf.gather(y, place)
        return divided(batch) if workload.scale else batch

    return (
        tf.data.Dataset.range(rows)
        .shuffle(rows)
        .repeat()
        .batch(BATCH, drop_remainder=True)
        .map(take, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


CONTENDERS: dict[str, Callable[[Workload], Run]] = {
    "framework": framework,
    "framework_quiet": framework_quiet,
    "fit": fit,
    "per_step": per_step,
    "range_loop": range_loop,
    "gather_loop": gather_loop,
    "two_devices": two_devices,
}
