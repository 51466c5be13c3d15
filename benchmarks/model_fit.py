"""Keras's own `Model.fit`, as a contender."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import keras

from benchmarks.workloads import Run, Workload


class _FitWatch(keras.callbacks.Callback):
    """Times `Model.fit` from inside, from its first batch to its last."""

    def __init__(self, at_once: int = 1) -> None:
        super().__init__()
        self.began: float | None = None
        self.seconds = 0.0
        self._at_once = at_once  # Keras calls back once for so many steps
        self.steps = -at_once

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.began is None:
            self.began = time.perf_counter()
        self.steps += self._at_once

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert self.began is not None
        self.seconds = time.perf_counter() - self.began


def fit(workload: Workload) -> Run:
    """`Model.compile` and `Model.fit` at their defaults, on NumPy arrays scaled beforehand."""
    return _model_fit(workload)


def fit_50(workload: Workload) -> Run:
    """`Model.fit` with steps_per_execution=50."""
    return _model_fit(workload, steps_per_execution=50, jit_compile=False)


def fit_50_xla(workload: Workload) -> Run:
    """`Model.fit` with steps_per_execution=50 and jit_compile=True."""
    return _model_fit(workload, steps_per_execution=50, jit_compile=True)


def _model_fit(workload: Workload, **options: Any) -> Run:
    model = workload.build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    at_once = options.get("steps_per_execution", 1)
    batch = workload.batch
    if workload.stream is None:
        x, y = workload.floats(), workload.y
        given: dict[str, Any] = {"x": x, "y": y, "batch_size": batch}

    def run(steps: int) -> float:
        # One epoch of just these steps, over rows from anywhere: what is timed is not its start.
        watch = _FitWatch(at_once)
        data = given if workload.stream is None else {"x": workload.stream()}
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            wanted = -(-(steps + at_once) // at_once) * at_once if at_once > 1 else steps + 1
            per_epoch = min(wanted, len(workload.x) // batch // at_once * at_once or wanted)
            epochs = -(-wanted // per_epoch)
            model.fit(**data, epochs=epochs, steps_per_epoch=per_epoch, callbacks=[watch])
        return watch.seconds * steps / watch.steps

    run(16)
    return run
