"""The ways to train that are compared.

Each prepares itself once (building, tracing, filling its shuffle buffer and running a few steps)
and is then timed again and again. All train with Adam at its defaults, sparse categorical
cross-entropy, accuracy, and batches shuffled anew every epoch.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from benchmarks import compiled, peers
from benchmarks.model_fit import fit, fit_50, fit_50_xla
from benchmarks.workloads import Run, Workload, divided
from framework import Callback, Trainer
from framework.callbacks.progress_bar import ProgressBar
from framework.every import Every
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger

WARM_STEPS = 500


class Stopwatch(Callback):
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

    Checkpoints are off because none of the others saves any. The engine is the one that
    `engine=auto` chooses for a long run: a turn is too short for that.
    """
    engine = chosen_engine(workload)

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=False, engine=engine)

    return run


class _AtOnce(Callback):
    """Ends a run before its first step."""

    def on_fit_start(self, trainer: Trainer) -> None:
        trainer.stop("the engine is chosen")


@lru_cache
def chosen_engine(workload: Workload) -> str:
    """Return what `engine=auto` measures to be the fastest, remembering nothing."""
    trainer = Trainer(
        max_steps=10**7,
        retune=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_AtOnce()],
    )
    former = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["XDG_CACHE_HOME"] = directory
        try:
            trainer.fit(_task(workload), workload.data)
        finally:
            del os.environ["XDG_CACHE_HOME"]
            if former is not None:
                os.environ["XDG_CACHE_HOME"] = former
    return trainer.engine


def _task(workload: Workload) -> Any:
    return workload.task(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )


def framework_quiet(workload: Workload) -> Run:
    """This framework with nobody listening: no logger, no progress, no log row but the last."""

    engine = chosen_engine(workload)

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=True, engine=engine)

    return run


def two_devices(workload: Workload) -> Run:
    """This framework on two logical devices, which have the cores of one between them."""

    def run(steps: int) -> float:
        return _fit(workload, steps, quiet=False, devices=2)

    return run


def _fit(
    workload: Workload, steps: int, *, quiet: bool, devices: int = 1, engine: str = "graph"
) -> float:
    # Tracing is part of every fit, so each one warms itself up before its watch starts.
    warm = min(WARM_STEPS, 10 * workload.steps_per_call)
    watch = Stopwatch(warm)
    task = _task(workload)
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=120)
        listeners: dict[str, Any] = {
            "callbacks": [watch, ProgressBar(console, live=True)],
            "loggers": [CSVLogger(), TensorBoardLogger()],
            "log_every": workload.log_every,
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
            max_steps=warm + steps,
            enable_model_summary=False,
            enable_checkpointing=False,
            devices=devices,
            engine=engine,
            **listeners,
        ).fit(task, workload.data)
    return watch.seconds


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

    run(min(WARM_STEPS, 10 * workload.steps_per_call))
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
            if at + workload.batch > rows:
                order.assign(tf.random.shuffle(order))
                at.assign(0)
            place = order[at : at + workload.batch]
            place.set_shape((workload.batch,))
            at.assign_add(workload.batch)
            batch = tf.gather(x, place), tf.gather(y, place)
            step(*(divided(batch) if workload.scale else batch))

    return _in_calls(many, metrics, workload)


def hand_step_xla(workload: Workload) -> Run:
    """The same, each step compiled by XLA inside of the loop."""
    step, metrics = _step(workload)
    return compiled.in_shuffled_calls(compiled.hand_step_xla(workload, step), metrics, workload)


def hand_loop_xla(workload: Workload) -> Run:
    """The same, the whole loop compiled by XLA."""
    step, metrics = _step(workload)
    return compiled.in_shuffled_calls(compiled.hand_loop_xla(workload, step), metrics, workload)


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

    run(min(WARM_STEPS, 10 * workload.steps_per_call))
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
        .batch(workload.batch, drop_remainder=True)
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
    "fit_50": fit_50,
    "fit_50_xla": fit_50_xla,
    "hand_step_xla": hand_step_xla,
    "hand_loop_xla": hand_loop_xla,
    "torch": peers.torch,
    "lightning": peers.lightning,
    "two_devices": two_devices,
}
