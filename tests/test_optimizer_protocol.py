"""What Keras splits between an optimizer and its trainer: as under `Model.fit`, or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from framework import Data, Task, Trainer
from framework.callbacks.ema import EMA
from framework.errors import UserError

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
Y = X @ np.array([[1.0], [2.0], [3.0]], "f4")
DATA = Data(train=(X, Y), val=(X, Y), batch_size=8, shuffle=False)
Make = Callable[[], keras.Optimizer]


def network() -> keras.Model:
    glorot = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                4,
                "tanh",
                kernel_initializer=glorot(1),
                kernel_constraint=keras.constraints.MaxNorm(0.9),
            ),
            keras.layers.Dense(1, kernel_initializer=glorot(2), kernel_regularizer="l2"),
        ]
    )


class Line(Task):
    def build_model(self) -> keras.Model:
        return network()

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", (self.model(batch[0]) - batch[1]) ** 2)


class LineByHand(Line):
    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        def loss() -> Any:
            return super(LineByHand, self).train_step(batch) + sum(self.model.losses)

        self.minimize(loss)


def trainer(**options: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "engine": "graph"}
    return Trainer(**{"max_epochs": 2, **quiet, **options})


def by_keras(make: Make, fits: int = 1, **options: Any) -> list[np.ndarray]:
    model = network()
    model.compile(make(), "mse", **options)
    model.optimizer.build(model.trainable_variables)
    for _ in range(fits):
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


def assert_same(task: Task, weights: list[np.ndarray], tolerance: float = 2e-6) -> None:
    for ours, theirs in zip(task.model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=0)


OPTIMIZERS = [
    "SGD", "RMSprop", "Adam", "AdamW", "Adadelta", "Adagrad", "Adamax", "Adafactor", "Nadam",
    "Ftrl", "Lion", "Lamb", "Muon", "ScheduleFreeAdamW",
]  # fmt: skip


def test_every_optimizer_of_keras_is_known_here() -> None:
    found = {
        name
        for name, each in vars(keras.optimizers).items()
        if isinstance(each, type) and issubclass(each, keras.Optimizer)
    }
    others = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    assert found - others - {n for n in found if n.endswith("Map")} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if hasattr(keras.optimizers, n)])
def test_an_optimizer_with_all_its_options_moves_weights_as_in_a_bare_loop(name: str) -> None:
    options = {"weight_decay": 0.01, "clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.5}
    model, optimizer = network(), getattr(keras.optimizers, name)(0.05, **options)
    optimizer.build(model.trainable_variables)
    for start in range(0, 40, 8):
        x, y = X[start : start + 8], Y[start : start + 8]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2) + sum(model.losses)
        optimizer.apply(tape.gradient(loss, model.trainable_variables))
    optimizer.finalize_variable_values(model.trainable_variables)
    task = Line(optimizer=getattr(keras.optimizers, name)(0.05, **options))
    trainer(max_epochs=1, val_every=None).fit(task, DATA)
    assert_same(task, model.get_weights())


SPLIT: dict[str, Make] = {
    "factor": lambda: keras.optimizers.SGD(0.1, loss_scale_factor=128.0),
    "wrapped": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 64.0),
    "accumulation": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "overwriting": lambda: keras.optimizers.Adam(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
}


@pytest.mark.parametrize("how", SPLIT)
@pytest.mark.parametrize("kind", [Line, LineByHand])
def test_what_the_trainer_has_to_do_for_an_optimizer_is_done(how: str, kind: type[Task]) -> None:
    task = kind(optimizer=SPLIT[how])
    trainer().fit(task, DATA)
    assert_same(task, by_keras(SPLIT[how]))


def test_a_loss_scale_optimizer_skips_an_overflow_and_halves_its_scale() -> None:
    class Overflowing(Line):
        def train_step(self, batch: Any) -> Any:
            bad = tf.where(self.global_step == 1, np.float32(np.inf), np.float32(1.0))
            return super().train_step(batch) * bad

    task = Overflowing(optimizer=SPLIT["wrapped"])
    run = trainer(max_steps=3, stop_on_nan=False)
    run.fit(task, DATA)
    assert run.metrics["train/loss_scale"] == 32.0
    assert run.metrics["train/skipped_updates"] == 1
    assert np.isfinite(task.model.get_weights()[0]).all()


class Amax(keras.layers.Layer):
    """Holds the greatest input seen, which comes as a gradient, as the scales of float8 do."""

    def build(self, shape: Any) -> None:
        self.amax = self.add_weight(shape=(), initializer="zeros", name="amax")
        self.amax.overwrite_with_gradient = True

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def identity(x: Any, amax: Any) -> Any:
            found = tf.reduce_max(tf.abs(x))
            return x + 0.0 * amax, lambda upstream: (upstream, tf.maximum(found, amax))

        return identity(x, self.amax.value)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_value_that_comes_as_a_gradient_is_neither_clipped_nor_unscaled(precision: str) -> None:
    class Scaled(Line):
        def build_model(self) -> keras.Model:
            return keras.Sequential(
                [keras.Input((3,)), Amax(dtype="float32"), keras.layers.Dense(1, dtype="float32")]
            )

    task = Scaled(optimizer=keras.optimizers.SGD(0.1))
    trainer(max_epochs=1, clip_norm=1e-3, clip_value=1e-3, precision=precision).fit(task, DATA)
    assert float(task.model.layers[0].amax.numpy()) == np.abs(X).max()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD()),
            "configure_optimizers",
        ),
        (
            lambda: type("Own", (keras.optimizers.SGD,), {"scale_loss": lambda self, x: 2 * x})(),
            "precision",
        ),
    ],
)
def test_what_cannot_be_split_so_is_refused_with_the_trainers_way(make: Make, said: str) -> None:
    with pytest.raises(UserError) as caught:
        trainer().fit(Line(optimizer=make()), DATA)
    assert said in str(caught.value.fix)


def test_the_average_of_use_ema_is_put_in_place_at_the_end_and_training_goes_on_without(
    tmp_path: Any,
) -> None:
    def make() -> keras.Optimizer:
        return keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.5)

    whole, part, again = Line(optimizer=make), Line(optimizer=make), Line(optimizer=make)
    trainer(run_dir=tmp_path / "whole").fit(whole, DATA)
    assert_same(whole, by_keras(make))
    trainer(max_epochs=1, run_dir=tmp_path / "part").fit(part, DATA)
    trainer(run_dir=tmp_path / "part").fit(again, DATA)
    assert_same(again, whole.model.get_weights(), 0.0)


GIVEN: dict[str, Callable[[Make], Any]] = {
    "object": lambda make: make(),
    "function": lambda make: make,
}


@pytest.mark.parametrize("given", GIVEN)
def test_a_second_fit_goes_on_with_weights_slots_and_count(given: str) -> None:
    def make() -> keras.Optimizer:
        rate = keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.5)
        return keras.optimizers.SGD(rate, momentum=0.9)

    task = Line(optimizer=GIVEN[given](make))
    for _ in range(2):
        trainer().fit(task, DATA)
    assert_same(task, by_keras(make, fits=2))


def test_another_optimizer_or_weights_that_were_frozen_start_with_new_slots() -> None:
    task = Line(optimizer="adam")
    trainer().fit(task, DATA)
    first = task._optimizers
    task.optimizer = "sgd"
    trainer().fit(task, DATA)
    assert task._optimizers is not first

    class Frozen(Line):
        def build_model(self) -> keras.Model:
            model = network()
            model.layers[0].trainable = False
            return model

    task = Frozen(optimizer="adam")
    trainer().fit(task, DATA)
    before = task.model.get_weights()[0]
    task.model.layers[0].trainable = True
    trainer().fit(task, DATA)
    assert np.abs(task.model.get_weights()[0] - before).max() > 0


def test_an_optimizer_of_another_model_is_refused() -> None:
    optimizer = keras.optimizers.Adam()
    trainer().fit(Line(optimizer=optimizer), DATA)
    with pytest.raises(UserError, match="another model"):
        trainer().fit(Line(optimizer=optimizer), DATA)


def test_weights_of_zero_count_for_nothing_even_where_values_are_not_finite() -> None:
    class Masked(Line):
        def train_step(self, batch: Any) -> Any:
            odd = tf.cast(self.global_step % 2, tf.float32)
            self.log("odd_loss", self_number(self) / odd, weight=odd)  # inf or NaN where even
            self.log("twice", np.float32(np.nan), weight=0.0)
            self.log("twice", 3.0)
            self.log("late_loss", 1.0, weight=tf.cast(self.global_step >= 5, tf.float32))
            return super().train_step(batch)

        def eval_step(self, batch: Any) -> None:
            self.log("none", np.float32(np.nan), weight=0.0)
            self.log("loss", 1.0)

    def self_number(task: Task) -> Any:
        return tf.cast(task.global_step, tf.float32)

    run = trainer(log_every="1st")
    metrics = run.fit(Masked(optimizer="sgd"), DATA)
    assert run.status == "completed"
    assert metrics["train/odd_loss"] == (5 + 7 + 9) / 3  # of the second epoch: steps 5 to 9
    assert metrics["train/twice"] == 3.0
    assert metrics["train/late_loss"] == 1.0
    assert "val/none" not in metrics


def test_an_average_that_is_still_the_first_weights_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "framework"):
        trainer(callbacks=[EMA(0.999)]).fit(Line(optimizer="sgd"), DATA)
        told = [r.getMessage() for r in caplog.records if "EMA" in r.getMessage()]
        assert len(told) == 1
        assert "after 5 steps the average is still 100 %" in told[0]  # 0.999 ** 5 = 0.995
        caplog.clear()
        trainer(callbacks=[EMA(0.5)]).fit(Line(optimizer="sgd"), DATA)
    assert not [r for r in caplog.records if "EMA" in r.getMessage()]
