"""What Keras splits between an optimizer and its trainer: as under `Model.fit`, or refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Initial

from framework import Data, Task, Trainer
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


class Halving(keras.optimizers.SGD):
    """Has a hand in the gradients where `Model.fit` calls it."""

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        return super().apply_gradients([(g * 0.5, v) for g, v in grads_and_vars])


def decaying_kernels() -> keras.Optimizer:
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


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
    "both": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5, clipnorm=0.5), 3.0
    ),
    "clipping": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.3, loss_scale_factor=100.0),
    "its own apply_gradients": lambda: Halving(0.1),
    "exclusions": decaying_kernels,
    "callable": lambda: keras.optimizers.SGD(lambda: 0.1),
}


@pytest.mark.parametrize("how", SPLIT)
@pytest.mark.parametrize("kind", [Line, LineByHand])
def test_what_the_trainer_has_to_do_for_an_optimizer_is_done(how: str, kind: type[Task]) -> None:
    task = kind(optimizer=SPLIT[how])
    trainer().fit(task, DATA)
    assert_same(task, by_keras(SPLIT[how]))


def test_a_loss_scale_factor_keeps_small_gradients_of_float16() -> None:
    def half() -> keras.Model:
        layers = [keras.layers.Dense(1, kernel_initializer="zeros", dtype="mixed_float16")]
        return keras.Sequential([keras.Input((3,)), *layers])

    class Small(Line):
        def build_model(self) -> keras.Model:
            return half()

        def train_step(self, batch: Any) -> Any:
            logits = tf.cast(self.model(batch[0], training=True), tf.float32)
            return tf.reduce_mean((logits - batch[1]) ** 2) * 1e-8

        def eval_step(self, batch: Any) -> None:
            pass

    def make() -> keras.Optimizer:
        return keras.optimizers.SGD(1e6, loss_scale_factor=2.0**20)

    model = half()
    model.compile(make(), lambda y, p: 1e-8 * (tf.cast(p, tf.float32) - y) ** 2)
    model.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    task = Small(optimizer=make)
    trainer(max_epochs=1).fit(task, DATA)
    assert np.abs(model.get_weights()[0]).max() > 1e-3  # without the factor it stays 0
    assert_same(task, model.get_weights())


def test_an_inner_gradient_is_that_of_the_loss_whatever_its_scale() -> None:
    class Penalized(Line):
        def train_step(self, batch: Any) -> Any:
            with tf.GradientTape() as inner:
                inner.watch(batch[0])
                output = self.model(batch[0], training=True)
            self.log("slope", self.gradient(inner, output, batch[0])[0, 0])
            return tf.reduce_mean((output - batch[1]) ** 2)

    runs = [trainer(max_steps=1), trainer(max_steps=1)]
    for run, factor in zip(runs, (None, 100.0), strict=True):
        run.fit(Penalized(optimizer=keras.optimizers.SGD(0.1, loss_scale_factor=factor)), DATA)
    plain, scaled = (run.metrics["train/slope"] for run in runs)
    assert scaled == pytest.approx(plain, rel=1e-6)


def test_loss_scales_that_differ_are_refused_and_one_is_forgotten_with_its_optimizer() -> None:
    class Two(Line):
        def configure_optimizers(self) -> Any:
            return {
                name: (
                    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 2.0**power),
                    self.model.layers[power],
                )
                for power, name in enumerate(("first", "second"))
            }

    with pytest.raises(UserError, match="different settings"):
        trainer().fit(Two(), DATA)
    task = Line(optimizer=SPLIT["wrapped"]())
    trainer().fit(task, DATA)
    task.optimizer = keras.optimizers.SGD(0.1)
    run = trainer()
    assert "train/loss_scale" not in run.fit(task, DATA)


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
    ("optimizer", "options", "said"),
    [
        ({"use_ema": True}, {}, "use_ema cannot average"),
        ({}, {"accumulate": 2}, "is its new value"),
    ],
)
def test_a_value_that_comes_as_a_gradient_is_refused_where_it_cannot_be_right(
    optimizer: Any, options: Any, said: str
) -> None:
    class Scaled(Line):
        def build_model(self) -> keras.Model:
            return keras.Sequential([keras.Input((3,)), Amax(), keras.layers.Dense(1)])

    task = Scaled(optimizer=keras.optimizers.SGD(0.1, **optimizer))
    with pytest.raises(UserError, match=said):
        trainer(max_epochs=1, **options).fit(task, DATA)


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


def test_whoever_evaluates_the_end_of_a_run_gets_the_average_that_fit_has_put_in_place(
    tmp_path: Any,
) -> None:
    def make() -> Task:
        return Line(
            optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5),
            data=Data(train=(X, Y), val=(X, Y), test=(X, Y), batch_size=8, shuffle=False),
        )

    task, run = make(), trainer(run_dir=tmp_path)
    run.fit(task)
    here, last_validation = run.test(task)["test/loss"], run.metrics["val/loss"]
    assert here != pytest.approx(last_validation, rel=1e-3)  # that was of the weights of training
    error = (task.model.predict(X, verbose=0) - Y) ** 2
    assert here == pytest.approx(error.mean(), rel=1e-5)
    later = trainer(run_dir=tmp_path)
    assert later.test(make(), checkpoint="last")["test/loss"] == here
    assert later.weights["test"]["average"] == run.weights["test"]["average"] == "the optimizer"
    first = Initial()
    fresh = trainer(max_steps=1, run_dir=tmp_path / "new", callbacks=[first])
    fresh.fit(make(), checkpoint=str(tmp_path), weights_only=True)
    for ours, theirs in zip(first.weights, task.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_optimizer_that_made_no_update_leaves_the_weights_as_they_are() -> None:
    class Half(Line):
        automatic_optimization = False

        def build_model(self) -> Any:
            return {"used": network(), "unused": network()}

        def configure_optimizers(self) -> Any:
            make = keras.optimizers.SGD
            return {name: make(0.1, use_ema=True, ema_momentum=0.5) for name in self.model}

        def train_step(self, batch: Any) -> None:
            model = self.model["used"]
            self.minimize(lambda: tf.reduce_mean((model(batch[0]) - batch[1]) ** 2), "used")

        def eval_step(self, batch: Any) -> None:
            self.log("loss", 1.0)

    task = Half()
    trainer().fit(task, DATA)
    for ours, first in zip(
        task.model["unused"].get_weights(), network().get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, first)


class Hooked(keras.Model):
    """Has what `Model.fit` would call."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)

    def compute_loss(self, *args: Any, **options: Any) -> Any:
        return super().compute_loss(*args, **options)


def test_what_only_model_fit_would_use_of_a_model_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Ported(Line):
        def build_model(self) -> keras.Model:
            inner = network()
            model = Hooked(inner.inputs, inner.outputs)
            model.compile("sgd", "mse")
            return model

    class Calling(Ported):
        def train_step(self, batch: Any) -> Any:
            loss = lambda: self.model.compute_loss(y=batch[1], y_pred=self.model(batch[0]))  # noqa: E731
            return loss()

    with caplog.at_level(logging.WARNING, "framework"):
        trainer(max_steps=1).fit(Line(), DATA)
        assert not caplog.records
        trainer(max_steps=1).fit(Ported(), DATA)
        hooks, compiled = [record.getMessage() for record in caplog.records]
        assert "train_step, compute_loss of Hooked" in hooks
        assert "Ported.train_step" in hooks
        assert "compiled with SGD" in compiled
        caplog.clear()
        trainer(max_steps=1).fit(Calling(optimizer="sgd"), DATA)
        (only,) = [record.getMessage() for record in caplog.records]
        assert "train_step of Hooked" in only
        assert "compute_loss" not in only


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_gradients_of_an_embedding_are_dense(name: str) -> None:
    rows = np.random.default_rng(1).integers(0, 20, (40, 4))

    def words() -> keras.Model:
        some = keras.initializers.RandomNormal(seed=1)
        return keras.Sequential(
            [
                keras.Input((4,), dtype="int64"),
                keras.layers.Embedding(20, 2, embeddings_initializer=some),
                keras.layers.Flatten(),
                keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=2)),
            ]
        )

    class Words(Line):
        def build_model(self) -> keras.Model:
            return words()

    model, optimizer = words(), getattr(keras.optimizers, name)(0.01)
    optimizer.build(model.trainable_variables)
    for start in range(0, 40, 8):
        with tf.GradientTape() as tape:
            error = model(rows[start : start + 8], training=True) - Y[start : start + 8]
            loss = tf.reduce_mean(error**2)
        found = tape.gradient(loss, model.trainable_variables)
        optimizer.apply([tf.convert_to_tensor(g) for g in found])
    task = Words(optimizer=getattr(keras.optimizers, name)(0.01))
    data = Data(train=(rows, Y), batch_size=8, shuffle=False)
    trainer(max_epochs=1).fit(task, data)
    assert_same(task, model.get_weights())
    if name == "SGD":  # for the others Keras does something else where gradients are sparse
        fitted = words()
        fitted.compile(getattr(keras.optimizers, name)(0.01), "mse")
        fitted.fit(rows, Y, batch_size=8, shuffle=False, verbose=0)
        assert_same(task, fitted.get_weights())


GIVEN: dict[str, Callable[[Make], Any]] = {
    "object": lambda make: make(),
    "function": lambda make: make,
    "configuration": lambda make: keras.optimizers.serialize(make()),
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
    first = task.runtime.optimizers
    task.optimizer = "sgd"
    trainer().fit(task, DATA)
    assert task.runtime.optimizers is not first

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
