"""Histograms of weights and gradients are those of an independent tape."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from averaged import STEPS, Recorder, plain_data
from helpers import FEATURES, Net, blobs, cross_entropy, make_trainer

from framework import Callback, Every, Logger
from framework.callbacks.freeze import Freeze
from framework.callbacks.histograms import Histograms
from framework.logger import Histogram


class Kept(Logger):
    def __init__(self) -> None:
        self.rows: dict[int, Mapping[str, Histogram]] = {}

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        self.rows[step] = histograms


def small() -> keras.Model:
    layers = [keras.layers.Dense(4, activation="tanh", name="body")]
    return keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(3, name="head")])


def run(path: Path, *callbacks: Callback, **options: Any) -> Kept:
    kept = Kept()
    given = {"max_epochs": 2, "run_dir": path, "loggers": [kept], **options}
    task = Net(small, optimizer=lambda: keras.optimizers.SGD(0.5))
    make_trainer(callbacks=callbacks, **given).fit(task, plain_data())
    return kept


def close(found: Histogram, values: Any) -> None:
    """The counts differ at most where a value is within rounding of an edge."""
    wanted = Histogram.of(np.asarray(values))
    assert found.counts.sum() == np.size(values)
    np.testing.assert_allclose(found.edges, wanted.edges, rtol=1e-3, atol=1e-6)
    assert np.abs(np.cumsum(found.counts) - np.cumsum(wanted.counts)).max() <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "graph"},
        {"engine": "step_xla"},
        {"engine": "loop_xla"},
        {"engine": "eager"},
        {"devices": 3},
        {"accumulate": 2},
        {"clip_norm": 1e-3},
        {"precision": "mixed_float16"},
    ],
    ids=str,
)
def test_they_are_those_of_a_tape(options: dict[str, Any], tmp_path: Path) -> None:
    class Before(Recorder):
        def on_train_batch_start(self, trainer: Any) -> None:
            self.steps.append(trainer.task.model.get_weights())

        on_train_batch_end = Callback.on_train_batch_end

    before = Before()
    kept = run(tmp_path, before, Histograms("2st"), **options)
    size = 8 * options.get("accumulate", 1)
    assert sorted(kept.rows) == list(range(2, len(before.steps) + 1, 2))
    x, y = blobs(8 * STEPS)
    for step, found in kept.rows.items():
        model = small()
        model.set_weights(before.steps[step - 1])
        start = (step - 1) * size % (8 * STEPS)
        rows = slice(start, start + size)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(y[rows], model(x[rows])))
        slopes = tape.gradient(loss, model.trainable_variables)
        names = ["body/kernel", "body/bias", "head/kernel", "head/bias"]
        assert list(found) == [f"{k}/{n}" for k in ("weights", "gradients") for n in names]
        for name, slope in zip(names, slopes, strict=True):
            if "precision" in options:  # float16 rounds too much for counts
                edges = Histogram.of(np.asarray(slope)).edges
                limit = 0.02 * np.abs(edges).max() + 1e-3
                np.testing.assert_allclose(
                    found[f"gradients/{name}"].edges, edges, rtol=0.02, atol=limit
                )
            else:
                close(found[f"gradients/{name}"], slope)
        if step < len(before.steps):
            for name, weight in zip(names, before.steps[step], strict=True):
                close(found[f"weights/{name}"], weight)


def test_without_the_callback_nothing_is_kept(tmp_path: Path) -> None:
    kept = run(tmp_path, Histograms("4st", gradients=False), Freeze("body"))
    assert list(kept.rows[4]) == ["weights/head/kernel", "weights/head/bias"]
    kept = run(tmp_path / "b", Histograms("4st"), Freeze("body"))
    assert [name for name in kept.rows[4] if "body" in name] == []


class SignalAt(Callback):
    """SIGTERM comes while the host logs a step."""

    every = Every("1st")

    def on_log(self, trainer: Any, metrics: Mapping[str, float]) -> None:
        if trainer.progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_signal_prevents_is_logged_later(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Histograms("4st"))
    with pytest.raises(SystemExit, match="143"):
        run(tmp_path / "cut", Histograms("4st"), SignalAt(), log_every="1st")
    cut = run(tmp_path / "cut", Histograms("4st"), log_every="1st")
    assert sorted(cut.rows) == sorted(whole.rows) == [4, 8]
    for step, found in whole.rows.items():
        assert found.keys() == cut.rows[step].keys()
        for name, each in found.items():
            np.testing.assert_array_equal(each.edges, cut.rows[step][name].edges)
            np.testing.assert_array_equal(each.counts, cut.rows[step][name].counts)
