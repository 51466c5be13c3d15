"""`evaluate` and `predict` on 10,000 CIFAR-100 images, beside Keras's own at its default batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.workloads import cifar100, divided
from framework import Data, Trainer

BAR = 2.0
COLUMNS = ["what", "seconds", "of rounds", "framework is", "of rounds", "bar"]
Say = Callable[[str], None]


def measure(
    data_dir: str | None, *, rounds: int = 5, images: int = 10_000, say: Say = lambda line: None
) -> dict[str, list[float]]:
    """Return the seconds of every round by what was done; the first, cold one is left out.

    `Trainer.test` and `Trainer.predict` are timed as a whole, opening the data and tracing
    included; Keras compiles once and keeps it.
    """
    workload = cifar100(data_dir, rows=images)
    x, y = workload.x[:images], workload.y[:images]
    path = Path(data_dir or ".") / "cifar100.npz"
    if data_dir is not None and path.is_file():
        with np.load(path) as file:
            x, y = file["x_test"][:images], file["y_test"].reshape(-1)[:images]
    task = workload.task(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )
    data = Data(test=(x, y), map=divided)
    trainer = Trainer(enable_progress_bar=False, enable_model_summary=False)
    model, floats = workload.build(), x.astype(np.float32) / np.float32(255)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    runs: dict[str, Callable[[], Any]] = {
        "framework: test": lambda: trainer.test(task, data),
        "Keras: evaluate": lambda: model.evaluate(floats, y, verbose=0),
        "framework: predict": lambda: trainer.predict(task, data),
        "Keras: predict": lambda: model.predict(floats, verbose=0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - began)
        say(f"evaluation: round {number} of {rounds}")
    return seconds


def _ratios(seconds: dict[str, list[float]], name: str) -> list[float]:
    names = list(seconds)
    own = seconds[names[names.index(name) - 1]]
    return [theirs / ours for ours, theirs in zip(own, seconds[name], strict=True)]


def rows(seconds: dict[str, list[float]]) -> list[list[str]]:
    """Return the table's rows."""
    found = []
    for name, each in seconds.items():
        row = [name, f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}"]
        if name.startswith("Keras"):
            ratios = _ratios(seconds, name)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            row += [f"{statistics.median(ratios):.2f}", spread, f"{BAR:.2f}"]
        found.append(row + [""] * (len(COLUMNS) - len(row)))
    return found


def missed(seconds: dict[str, list[float]]) -> list[str]:
    """Return a line for every bar that is missed."""
    medians = {name: statistics.median(_ratios(seconds, name)) for name in list(seconds)[1::2]}
    return [
        f"evaluation: {ratio:.2f} of {name}, wanted {BAR:.2f}"
        for name, ratio in medians.items()
        if ratio < BAR
    ]
