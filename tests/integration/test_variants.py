"""StepRunner variants: the same results, cut as one likes, and a reason where XLA cannot."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CLASSES,
    FEATURES,
    LogRows,
    Net,
    blobs,
    busy_data,
    dense,
    differing,
    fitted,
    make_trainer,
    noisy,
)

from framework import Data, Task, Trainer, UserError

XLA = ("step_xla", "loop_xla")
xla = pytest.mark.parametrize("engine", XLA)


def convolutional() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(3)
    x = random.randint(0, 256, (rows, 6, 6, 1)).astype("uint8")
    return x, (x.reshape(rows, -1)[:, :3]).argmax(-1)


def scaled(batch: Any) -> Any:
    return tf.cast(batch[0], tf.float32) / 255.0, batch[1]


class Metered(Net):
    """Logs values, one of them twice, and a Keras metric."""

    def build_model(self) -> Any:
        self.auc = keras.metrics.SparseCategoricalAccuracy()
        self.steps = self.variable("steps", 0)
        self.average = self.ema_of(built := super().build_model(), 0.9)
        return {"net": built, "average": self.average}

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        logits = self.model["net"](x, training=True)
        self.auc.update_state(y, logits)
        self.log("metric", self.auc)
        self.log("twice", tf.reduce_mean(logits))
        self.log("twice", tf.reduce_max(logits))
        self.log("step", self.global_step)
        self.steps.assign_add(1)
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, True))

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        self.log("loss", keras.losses.sparse_categorical_crossentropy(y, self.model["net"](x)))

    def configure_optimizers(self) -> Any:
        return {"net": keras.optimizers.Adam(1e-2)}


class Adversarial(Task):
    """Two networks by hand: two updates of one, a tape for the other, an inner gradient."""

    automatic_optimization = False

    def build_model(self) -> Any:
        def net(outputs: int) -> keras.Model:
            hidden = keras.layers.Dense(8, activation="tanh")
            return keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(outputs)])

        return {"critic": net(1), "generator": net(6)}

    def configure_optimizers(self) -> Any:
        return {name: keras.optimizers.Adam(1e-2) for name in ("critic", "generator")}

    def critic_loss(self, x: Any) -> Any:
        critic, generator = self.model["critic"], self.model["generator"]
        with tf.GradientTape() as inner:
            inner.watch(x)
            scores = critic(x, training=True)
        slopes = tf.norm(self.gradient(inner, scores, x), axis=1)
        fake = critic(generator(x, training=True), training=True)
        return tf.reduce_mean(fake - scores) + 10.0 * tf.reduce_mean((slopes - 1.0) ** 2)

    def train_step(self, batch: Any) -> None:
        x, _ = batch
        for _ in range(2):
            self.log("critic", self.minimize(lambda: self.critic_loss(x), "critic"))
        with tf.GradientTape() as tape:
            made = self.model["generator"](x, training=True)
            loss = -tf.reduce_mean(self.model["critic"](made, training=True))
        self.apply_gradients(tape, loss, "generator")
        self.log("generator", loss)

    def eval_step(self, batch: Any) -> None:
        with self.snapshot():
            self.log("adapted", self.minimize(lambda: self.critic_loss(batch[0]), "critic"))


def plain(rows: int) -> Data:
    return busy_data(rows, augment=None, val=None)


def adamw() -> keras.Optimizer:
    return keras.optimizers.AdamW(1e-2)


WORK: dict[str, Any] = {
    "dense": (lambda: Net(dense, optimizer=adamw), lambda: plain(40), {}),
    "conv": (
        lambda: Net(convolutional, optimizer=adamw),
        lambda: Data(train=images(40), batch_size=8, map=scaled),
        {},
    ),
    "metered": (lambda: Metered(dense), lambda: plain(40), {}),
    "by hand": (Adversarial, lambda: plain(40), {}),
    "pipeline": (
        lambda: Net(dense, optimizer=adamw),
        lambda: plain(43),
        {"accumulate": {0: 1, 1: 3}, "clip_norm": 0.1, "clip_value": 0.05, "log_grad_norm": True},
    ),
    "float16": (
        lambda: Net(dense, optimizer=adamw),
        lambda: plain(40),
        {"precision": "mixed_float16"},
    ),
}


def work(name: str, **options: Any) -> tuple[Trainer, LogRows]:
    make_task, make_data, own = WORK[name]
    rows = LogRows()
    options = {"max_epochs": 2, "log_every": "5st", "callbacks": [rows], **own, **options}
    return fitted(make_task(), make_data(), **options), rows


def weights(trainer: Trainer) -> list[np.ndarray]:
    models = trainer.task.model
    models = models.values() if isinstance(models, dict) else [models]
    return [w for model in models for w in model.get_weights()]


@pytest.mark.parametrize("name", WORK)
def test_every_variant_computes_what_graph_computes(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    graph, rows = work(name, engine="graph")
    tolerance = 2e-3 if name == "float16" else 1e-5
    for engine in XLA:
        other, other_rows = work(name, engine=engine)
        assert other.engine == engine
        assert [step for step, _ in other_rows.rows] == [step for step, _ in rows.rows]
        for (_, one), (_, two) in zip(
            rows.rows + rows.val, other_rows.rows + other_rows.val, strict=True
        ):
            assert two == pytest.approx(one, abs=tolerance * 10, rel=tolerance)
        for a, b in zip(weights(graph), weights(other), strict=True):
            np.testing.assert_allclose(b, a, atol=tolerance)
    assert "instead" not in caplog.text


@xla
@pytest.mark.parametrize("name", ["noisy", "by hand"])
def test_cutting_into_stretches_changes_no_bit_in_any_variant(engine: str, name: str) -> None:
    def run(log_every: str) -> Trainer:
        if name == "by hand":
            return work(name, engine=engine, log_every=log_every)[0]
        task = Net(noisy, optimizer=adamw)
        data = busy_data(83, val=None, augment=philox)
        return fitted(task, data, engine=engine, max_epochs=2, log_every=log_every)

    whole, cut = run("1ep"), run("3st")
    assert whole.engine == engine
    assert differing(whole, cut) == []


def philox(batch: Any, seed: tf.Tensor) -> Any:
    """Noise from philox's bits, of which XLA would make other floats."""
    x, y = batch
    bits = tf.random.stateless_uniform(
        tf.shape(x), seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return x + tf.cast(bits, tf.float32) * 2.0**-31, y


@xla
def test_shuffling_and_philox_augmentation_are_the_same_in_all_variants(engine: str) -> None:
    class Sees(Net):
        def train_step(self, batch: Any) -> Any:
            self.log("x", batch[0][0, 0])
            return super().train_step(batch)

    def seen(engine: str) -> list[float]:
        rows = LogRows()
        data = busy_data(43, val=None, augment=philox)
        fitted(Sees(), data, engine=engine, log_every="1st", callbacks=[rows])
        return [row["train/x"] for _, row in rows.rows]

    assert seen(engine) == seen("graph")


class Counting(Net):
    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.train_calls, self.eval_calls = 0, 0

    def train_step(self, batch: Any) -> Any:
        self.train_calls += 1
        return super().train_step(batch)

    def eval_step(self, batch: Any) -> None:
        self.eval_calls += 1
        super().eval_step(batch)


@xla
@pytest.mark.parametrize(("rows", "shapes"), [(40, 1), (43, 2)])
def test_a_step_is_traced_once_for_each_batch_shape(engine: str, rows: int, shapes: int) -> None:
    task = Counting(dense)
    data = Data(train=blobs(rows), val=blobs(10), batch_size=8, eval_batch_size=8)
    fitted(task, data, engine=engine, max_epochs=4, log_every="2st", val_every="3st")
    assert (task.train_calls, task.eval_calls) == (shapes, 2)


class Calls(Net):
    def train_step(self, batch: Any) -> Any:
        tf.py_function(lambda: None, [], [])
        return super().train_step(batch)


class Draws(Net):
    def train_step(self, batch: Any) -> Any:
        x, y = batch
        return super().train_step((x + tf.random.normal(tf.shape(x)), y))


class Finds(Net):
    def train_step(self, batch: Any) -> Any:
        self.log("kinds", tf.size(tf.unique_with_counts(batch[1])[0]))
        return super().train_step(batch)


@xla
@pytest.mark.parametrize(
    ("task", "operation"),
    [(Calls, "EagerPyFunc"), (Draws, "RandomStandardNormal"), (Finds, "UniqueWithCounts")],
)
def test_a_step_that_xla_cannot_compile_runs_as_a_graph(
    engine: str, task: type[Net], operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = fitted(task(), Data(train=blobs(43), batch_size=8), engine=engine)
    assert trainer.progress.step == 6
    assert trainer.engine == trainer.result()["engine"] == "graph"
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(lines) == 1
    assert lines[0].startswith(f"engine=graph instead of {engine}: ")
    assert operation in lines[0]
    assert "Traceback" not in lines[0]


def test_a_recurrent_network_is_compiled_by_xla() -> None:
    def build() -> keras.Model:
        layers = [keras.Input((FEATURES,)), keras.layers.Reshape((FEATURES, 1))]
        return keras.Sequential([*layers, keras.layers.LSTM(3), keras.layers.Dense(CLASSES)])

    data = Data(train=blobs(24), batch_size=8)
    graph, other = (fitted(Net(build), data, engine=e) for e in ("graph", "step_xla"))
    assert other.engine == "step_xla"
    for a, b in zip(weights(graph), weights(other), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_strings_and_dates_are_named(caplog: pytest.LogCaptureFixture) -> None:
    class TwoOfThree(Net):
        def train_step(self, batch: Any) -> Any:
            return super().train_step(batch[:2])

    x, y = blobs(16)
    data = Data(train=(x, y, y.astype("S3")), batch_size=8)
    assert fitted(TwoOfThree(), data, engine="step_xla").engine == "graph"
    assert "XLA does not support strings, and the batch has some" in caplog.text
    for resident in (True, False):
        dates = Data(train=(x, y, y.astype("datetime64[s]")), batch_size=8, resident=resident)
        with pytest.raises(UserError, match="an array of dates or times"):
            fitted(TwoOfThree(), dates)


def test_a_stream_and_several_devices_say_why_they_run_as_a_graph(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = tf.data.Dataset.from_tensor_slices(blobs(43)).batch(8)
    task = Net()
    assert fitted(task, Data(train=stream), engine="loop_xla").engine == "graph"
    assert "instead of loop_xla: the data is not on the device" in caplog.text
    caplog.clear()
    data = Data(train=blobs(40), batch_size=8)
    assert fitted(Net(), data, engine="step_xla", devices=2).engine == "graph"
    assert "instead of step_xla: several devices share each step" in caplog.text


def test_the_steps_of_a_stream_are_compiled_too() -> None:
    def run(engine: str) -> Trainer:
        stream = tf.data.Dataset.from_tensor_slices(blobs(43)).batch(8)
        return fitted(Net(optimizer=adamw), Data(train=stream), engine=engine, max_epochs=2)

    graph, other = run("graph"), run("step_xla")
    assert other.engine == "step_xla"
    for a, b in zip(weights(graph), weights(other), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


def test_freezing_in_mid_run_compiles_anew() -> None:
    trainer = make_trainer(engine="loop_xla", max_epochs=2)

    class Freezes(Net):
        def on_epoch_end(self) -> None:
            if self.trainer.progress.epoch == 1:
                self.model.layers[-1].trainable = False
                self.trainer.recompile()
                self.after = self.model.get_weights()

    class Two(Freezes):
        def build_model(self) -> Any:
            return keras.Sequential(
                [keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(3)]
            )

    task = Two()
    trainer.fit(task, Data(train=blobs(40), batch_size=8))
    first, last = task.model.layers
    np.testing.assert_array_equal(last.get_weights()[0], task.after[2])
    assert np.abs(first.get_weights()[0] - task.after[0]).max() > 1e-4
