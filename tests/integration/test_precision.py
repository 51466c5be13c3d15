"""Precisions, and the loss scale of float16."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, fitted, make_trainer, noisy

from framework import Data, Task, Trainer
from framework.run import assembly as setup
from framework.step.precision import LossScale

DATA = Data(train=blobs(64), val=blobs(20, 1), batch_size=8)


@pytest.mark.parametrize(
    ("precision", "weights", "activations"),
    [
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("mixed_bfloat16", "float32", "bfloat16"),
        ("mixed_float16", "float32", "float16"),
    ],
)
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_precision_sets_the_dtypes_and_learns(
    precision: str, weights: str, activations: str, engine: str
) -> None:
    class Typed(Net):
        def train_step(self, batch: Any) -> Any:
            dtypes.append(self.model(batch[0], training=True).dtype)
            return super().train_step(batch)

    dtypes: list[Any] = []
    task = Typed(noisy, optimizer=lambda: keras.optimizers.Adam(0.03))
    trainer = fitted(task, DATA, precision=precision, max_epochs=4, engine=engine)
    assert {v.dtype for v in task.model.trainable_variables} == {weights}
    assert {tf.as_dtype(d).name for d in dtypes} == {activations}
    assert all(np.isfinite(w).all() for w in task.model.get_weights())
    assert trainer.metrics["val/accuracy"] > 0.5
    assert keras.config.floatx() == "float32"


class Linear(Task):
    """One float16 layer whose gradient is `slope` times the input's mean."""

    def __init__(self, slope: float, **parts: Any) -> None:
        super().__init__(**parts)
        self.slope = slope

    def build_model(self) -> keras.Model:
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((1,)), layer])

    def train_step(self, batch: Any) -> Any:
        output = self.model(batch, training=True)
        assert output.dtype == tf.float16
        return tf.reduce_mean(tf.cast(output, tf.float32)) * self.slope

    def eval_step(self, batch: Any) -> None:
        pass


class ManualLinear(Linear):
    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        with tf.GradientTape() as tape:
            loss = super().train_step(batch)
        self.apply_gradients(tape, loss)


def run_linear(task: Linear, steps: int, **options: Any) -> Trainer:
    data = Data(train=np.ones((4 * steps, 1), "float32"), batch_size=4)
    return fitted(task, data, precision="mixed_float16", log_every="1st", **options)


@pytest.mark.parametrize("kind", [Linear, ManualLinear])
def test_a_gradient_too_small_for_float16_survives(kind: type[Linear]) -> None:
    slope = 2.0**-26  # a quarter of float16's smallest number, also when spread over four rows
    assert np.float16(slope) == 0
    task = kind(slope, optimizer=keras.optimizers.SGD(2.0**20))
    run_linear(task, 1)
    assert task.model.get_weights()[0].item() == -slope * 2.0**20


@pytest.mark.parametrize("kind", [Linear, ManualLinear])
def test_an_overflow_skips_the_update_and_halves_the_scale(kind: type[Linear]) -> None:
    # The gradient, 16 times the scale, is beyond float16's 65,504 until the scale is 2^11.
    task = kind(16.0, optimizer=keras.optimizers.SGD(1.0, momentum=0.9))
    trainer = run_linear(task, 2)
    assert task.model.get_weights()[0].item() == 0.0
    state = trainer.state()["loss_scale"]
    assert (state["value"], state["skipped"], state["good_steps"]) == (2.0**13, 2, 0)
    slots = trainer.state()["optimizers"]["optimizer"]
    assert not any(value.any() for name, value in slots.items() if "momentum" in name)
    assert next(value for name, value in slots.items() if "iteration" in name) == 0

    task = kind(16.0, optimizer=keras.optimizers.SGD(1.0))
    trainer = run_linear(task, 6)
    assert task.model.get_weights()[0].item() == -2 * 16.0  # the fifth and sixth went through
    state = trainer.state()["loss_scale"]
    assert (state["value"], state["skipped"], state["good_steps"]) == (2.0**11, 4, 2)


def test_the_scale_doubles_after_enough_good_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "LossScale", lambda: LossScale(initial=8.0, growth_steps=3))
    task = Linear(1.0, optimizer=keras.optimizers.SGD(0.5))
    trainer = run_linear(task, 7)
    state = trainer.state()["loss_scale"]
    assert (state["value"], state["good_steps"], state["skipped"]) == (32.0, 1, 0)
    assert task.model.get_weights()[0].item() == -3.5


def test_float32_has_no_loss_scale() -> None:
    trainer = fitted(Net(), DATA)
    assert trainer.state()["loss_scale"] == {}
    assert not trainer.recovers_from_overflow


def test_a_mixed_run_leaves_float32_to_the_next() -> None:
    plain = Net(noisy)
    fitted(plain, DATA, log_every="1ep")
    expected = plain.model.get_weights()
    fitted(Net(noisy), DATA, precision="mixed_float16")
    after = Net(noisy)
    fitted(after, DATA, log_every="1ep")
    assert after.model.compute_dtype == "float32"
    pairs = zip(expected, after.model.get_weights(), strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_validate_at_a_precision_of_its_own() -> None:
    task = Net(noisy)
    make_trainer(precision="float64").validate(task, DATA)
    assert {v.dtype for v in task.model.trainable_variables} == {"float64"}
