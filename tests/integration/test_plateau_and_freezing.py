"""Rates lowered on a plateau, and weights frozen for a while; against NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from averaged import STEPS, Halves, Recorder, fit, normed, sgd
from helpers import Net, blobs, busy_data, cross_entropy, dense, differing

from framework import Callback, Trainer
from framework.callbacks.freeze import Freeze
from framework.callbacks.learning_rate import LearningRateMonitor
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau

# ---- reduce on plateau


class Told(Net):
    """Validations come out as it is told, one value after the other."""

    values: Sequence[float] = ()

    def eval_step(self, batch: Any) -> None:
        number = tf.cast(self.global_step // STEPS - 1, tf.int32)
        self.log("loss", tf.gather(tf.constant(self.values, tf.float64), number))


class Rates(Callback):
    """Keeps the learning rate after every epoch."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.found.append(float(trainer.optimizers["optimizer"].learning_rate.numpy()))


FLAT = [1.0, 0.5, 0.5, 0.5, 0.49, 0.48999, 0.5, 0.6, 0.6, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5, "min_delta": 0.0},
        {"patience": 2, "cooldown": 3, "min_delta": 0.02},
        {"patience": 1, "min_learning_rate": 0.005},
        {"patience": 2, "mode": "max", "cooldown": 1},
    ],
)
def test_a_plateau_is_what_keras_calls_one(options: dict[str, Any]) -> None:
    theirs = {k.replace("learning_rate", "lr"): v for k, v in options.items()}
    judge = keras.callbacks.ReduceLROnPlateau(**{"min_delta": 1e-4, "factor": 0.1, **theirs})
    model = dense()
    model.compile(sgd(0.1)(), "mse")
    judge.set_model(model)
    judge.on_train_begin()
    wanted = []
    for epoch, value in enumerate(FLAT):
        judge.on_epoch_end(epoch, {"val_loss": value})
        wanted.append(float(model.optimizer.learning_rate.numpy()))
    assert len(set(wanted)) > 1

    task, rates = Told(optimizer=sgd(0.1)), Rates()
    task.values = FLAT
    fit(task, ReduceOnPlateau(**options), rates, max_epochs=len(FLAT))
    assert rates.found == wanted


def test_a_plateau_of_one_of_two_optimizers() -> None:
    task = Halves(sgd(0.1), sgd(0.1))
    trainer = fit(
        task,
        ReduceOnPlateau("train/loss", patience=1, min_delta=10.0, factor=0.5, optimizer="head"),
        LearningRateMonitor(),
        max_epochs=3,
    )
    # The second and the third epoch are judged, each after its row was logged.
    assert trainer.metrics["train/learning_rate/head"] == pytest.approx(0.05)
    assert trainer.metrics["train/learning_rate/body"] == pytest.approx(0.1)
    rates = {k: float(o.learning_rate.numpy()) for k, o in trainer.optimizers.items()}
    assert rates == pytest.approx({"head": 0.025, "body": 0.1})


# ---- freezing


def frozen_at(recorder: Recorder, model: keras.Model) -> dict[str, list[bool]]:
    """Whether each weight kept its bits in each epoch."""
    states = [recorder.first, *recorder.epochs]
    return {
        v.path: [a[i].tobytes() == b[i].tobytes() for a, b in pairwise(states)]
        for i, v in enumerate(model.weights)
    }


def decaying() -> keras.Optimizer:
    return keras.optimizers.AdamW(0.02, weight_decay=0.1)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_frozen_weights_keep_their_bits_until_they_are_let_go(engine: str) -> None:
    recorder = Recorder()
    task = Net(normed, optimizer=decaying)
    trainer = fit(task, recorder, Freeze(["dense", "batch*"], until=2), engine=engine)
    kept = frozen_at(recorder, task.model)
    for path, epochs in kept.items():
        # Batch norm renews no statistics while it is frozen.
        assert epochs == ([False] * 3 if "/dense_1/" in path else [True, True, False]), path
    assert all(v.trainable for v in task.model.trainable_variables)
    assert len(task.model.trainable_variables) == 6
    assert len(trainer.optimizers["optimizer"]._trainable_variables) == 6


def test_what_is_frozen_learns_afterwards_as_if_it_had_just_begun() -> None:
    # After the release: the same steps as in a run that starts from there with fresh slots for
    # the first layer. Without momentum there are none, so the whole run is simple arithmetic.
    recorder = Recorder()
    task = Net(normed, optimizer=sgd(0.1))
    fit(task, recorder, Freeze("batch_normalization", until=1), Freeze("dense", until=2))
    x, y = blobs(8 * STEPS)
    model = normed()
    model.set_weights(recorder.first)
    hidden, norm, _ = model.layers
    for step in range(3 * STEPS):
        epoch, rows = step // STEPS, slice(step % STEPS * 8, (step % STEPS + 1) * 8)
        norm.trainable, hidden.trainable = epoch >= 1, epoch >= 2
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(y[rows], model(x[rows], training=True)))
        weights = model.trainable_variables
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.1 * gradient)
    for mine, bare in zip(task.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, bare, rtol=1e-4, atol=1e-6)


def test_frozen_for_ever_and_a_run_that_goes_on(tmp_path: Path) -> None:
    recorder = Recorder()
    task = Net(normed, optimizer=decaying)
    fit(task, recorder, Freeze("dense"))
    assert frozen_at(recorder, task.model)["sequential/dense/kernel"] == [True, True, True]
    # Cut anywhere, before or after the release, the bits are those of the unbroken run.
    whole = fit(Net(normed, optimizer=decaying), Freeze("dense", until=1), data=busy_data())
    for epochs in (1, 3):
        task = Net(normed, optimizer=decaying)
        freeze, limit = Freeze("dense", until=1), {"max_epochs": epochs, "run_dir": tmp_path}
        parts = fit(task, freeze, data=busy_data(), **limit)
    assert differing(whole, parts) == []
