"""Means weighted by examples, Keras metrics, and evaluation that leaves training alone."""

from __future__ import annotations

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
    differing,
    fitted,
    make_trainer,
    noisy,
)

from framework import Callback, Data, Task, Trainer
from framework.callbacks.checkpoint import Checkpoint


class Regression(Task):
    """Least squares, simple enough to be worked out in NumPy."""

    def build_model(self) -> keras.Model:
        layer = keras.layers.Dense(1, kernel_initializer="ones")
        return keras.Sequential([keras.Input((2,)), layer])

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        error = self.model(x, training=True)[:, 0] - y
        self.log("mae", tf.abs(error))
        self.log("weighted", error[0], weight=error[0] ** 2)
        return tf.reduce_mean(error**2)

    def eval_step(self, batch: Any) -> dict[str, Any]:
        x, y = batch
        error = self.model(x)[:, 0] - y
        return {"mse": error**2, "mae": tf.abs(error)}


def by_hand(
    x: np.ndarray, y: np.ndarray, batch: int, epochs: int, rate: float
) -> list[dict[str, float]]:
    """Every step's values, by NumPy in float64: loss, mae, weighted, and their weights."""
    w, b, steps = np.ones(2), 0.0, []
    for _ in range(epochs):
        for start in range(0, len(x), batch):
            bx, by = x[start : start + batch], y[start : start + batch]
            error = bx @ w + b - by
            step = {"n": len(bx), "loss": np.mean(error**2), "mae": np.mean(np.abs(error))}
            steps.append(step | {"weighted": error[0], "w": error[0] ** 2})
            w, b = w - rate * 2 * bx.T @ error / len(bx), b - rate * 2 * error.mean()
    return steps


def mean(steps: list[dict[str, float]], name: str, weight: str = "n") -> float:
    return float(np.average([s[name] for s in steps], weights=[s[weight] for s in steps]))


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_training_means_are_weighted_by_examples(engine: str) -> None:
    random = np.random.RandomState(0)
    x, y = random.randn(23, 2), random.randn(23) * 3  # batches of 5, 5, 5, 5, 3
    steps = by_hand(x, y, batch=5, epochs=2, rate=0.125)
    log = LogRows()
    trainer = make_trainer(
        max_epochs=2, log_every="3st", precision="float64", engine=engine, callbacks=[log]
    )
    task = Regression(optimizer=keras.optimizers.SGD(0.125))
    metrics = trainer.fit(task, Data(train=(x, y), batch_size=5, shuffle=False))

    assert [step for step, _ in log.rows] == [3, 5, 6, 9, 10]
    for (stop, row), start in zip(log.rows, [0, 3, 5, 6, 9], strict=True):
        for name in ("loss", "mae"):
            assert row[f"train/{name}"] == pytest.approx(mean(steps[start:stop], name), rel=1e-9)
        expected = mean(steps[start:stop], "weighted", "w")
        assert row["train/weighted"] == pytest.approx(expected, rel=1e-9)
        assert ("train/loss_epoch" in row) == (stop in (5, 10))
    for row, epoch in ((log.rows[1][1], steps[:5]), (log.rows[4][1], steps[5:])):
        assert row["train/loss_epoch"] == pytest.approx(mean(epoch, "loss"), rel=1e-9)
        assert row["train/mae_epoch"] == pytest.approx(mean(epoch, "mae"), rel=1e-9)
    assert abs(mean(steps[:5], "loss") - np.mean([s["loss"] for s in steps[:5]])) > 1e-3
    assert metrics["train/loss"] == pytest.approx(mean(steps[5:], "loss"), rel=1e-9)
    assert set(metrics) == {
        "train/loss",
        "train/mae",
        "train/weighted",
        "train/learning_rate",
    }


class Judged(Net):
    """One Keras metric that training and evaluation share."""

    def build_model(self) -> keras.Model:
        self.hits = keras.metrics.SparseCategoricalAccuracy()
        self.auc = keras.metrics.AUC(num_thresholds=50)
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        logits = self.model(x, training=True)
        self.hits.update_state(y, logits)
        self.log("accuracy", self.hits)
        return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, True))

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        logits = self.model(x, training=False)
        self.hits.update_state(y, logits)
        self.auc.update_state(tf.one_hot(y, CLASSES), tf.nn.softmax(logits))
        self.log("loss", keras.losses.sparse_categorical_crossentropy(y, logits, True))
        self.log("accuracy", self.hits)
        self.log("auc", self.auc)


def softmax_net() -> keras.Model:
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES, activation="softmax")]
    )


class Probabilities(Task):
    def build_model(self) -> keras.Model:
        self.auc = keras.metrics.AUC()
        return softmax_net()

    def train_step(self, batch: Any) -> Any:
        raise AssertionError("validate must not train")

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        p = self.model(x)
        self.auc.update_state(y, p)
        self.log("loss", keras.losses.categorical_crossentropy(y, p))
        self.log("accuracy", keras.metrics.categorical_accuracy(y, p))
        self.log("auc", self.auc)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("rows", [1, 32, 77])
def test_validate_equals_model_evaluate_on_ragged_data(rows: int, engine: str) -> None:
    x, labels = blobs(rows)
    y = np.eye(CLASSES, dtype="float32")[labels]
    task = Probabilities()
    trainer = make_trainer(engine=engine)
    ours = trainer.validate(task, Data(val=(x, y), batch_size=32))
    assert trainer.validate(task, Data(val=(x, y), batch_size=32)) == ours  # nothing piles up
    model = softmax_net()
    model.set_weights(task.model.get_weights())
    model.compile(
        loss="categorical_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")]
    )
    theirs = model.evaluate(x, y, batch_size=32, verbose=0, return_dict=True)
    assert ours.keys() == {f"val/{name}" for name in theirs}
    for name, value in theirs.items():
        assert ours[f"val/{name}"] == pytest.approx(value, abs=1e-6)


def test_evaluating_in_mid_epoch_changes_no_training_metric_and_no_weight() -> None:
    runs = {}
    for val_every in (None, "3st"):
        keras_rows = LogRows()
        task = Judged(noisy, optimizer="adam")
        trainer = make_trainer(
            max_epochs=2, log_every="4st", val_every=val_every, callbacks=[keras_rows]
        )
        trainer.fit(task, busy_data())
        runs[val_every] = trainer, keras_rows
    (plain, plain_rows), (mid, mid_rows) = runs[None], runs["3st"]
    assert [step for step, _ in mid_rows.val] == [3, 6, 9, 12, 15, 18, 21, 24, 26]
    assert plain_rows.val == []
    assert mid_rows.rows == plain_rows.rows
    assert differing(plain, mid) == []


def test_a_keras_metric_is_given_as_it_stands_since_the_epochs_start() -> None:
    x, y = blobs(40)
    log = LogRows()
    task = Judged(optimizer=keras.optimizers.SGD(0.0))  # a still model: its accuracy is known
    trainer = make_trainer(max_epochs=2, log_every="2st", callbacks=[log])
    trainer.fit(task, Data(train=(x, y), batch_size=10, shuffle=False))
    right = task.model.predict(x, verbose=0).argmax(-1) == y
    expected = [right[:20].mean(), right.mean()] * 2
    found = [row["train/accuracy"] for _, row in log.rows]
    assert found == pytest.approx(expected, abs=1e-6)
    assert trainer.metrics["train/accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_several_validation_sets_are_judged_by_name() -> None:
    task = Net()
    clean, noise = blobs(20, seed=1), blobs(11, seed=2)
    both = make_trainer().validate(task, Data(val={"clean": clean, "noise": noise}, batch_size=8))
    for name, each in (("clean", clean), ("noise", noise)):
        alone = make_trainer().validate(task, Data(val=each, batch_size=8))
        for metric in ("loss", "accuracy"):
            assert both[f"val/{name}/{metric}"] == alone[f"val/{metric}"]
    assert len(both) == 4


class LossTerms(Net):
    def build_model(self) -> keras.Model:
        kernel = {"kernel_regularizer": keras.regularizers.L2(0.1), "kernel_initializer": "ones"}
        return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(CLASSES, **kernel)])

    def train_step(self, batch: Any) -> Any:
        x, _ = batch
        return 0.0 * tf.reduce_sum(self.model(x, training=True))


def test_loss_terms_of_layers_are_added_once() -> None:
    task = LossTerms(optimizer=keras.optimizers.SGD(1.0))
    trainer = fitted(task, Data(train=blobs(16), batch_size=8), max_epochs=1, log_every="1st")
    # w <- w - 1.0 * 2 * 0.1 * w, twice; the logged loss is 0.1 * sum(w^2).
    assert task.model.get_weights()[0] == pytest.approx(
        np.full((FEATURES, CLASSES), 0.64), rel=1e-6
    )
    size = FEATURES * CLASSES
    assert trainer.metrics["train/loss"] == pytest.approx(0.1 * size * (1 + 0.64) / 2, rel=1e-6)


def test_a_value_logged_in_a_hook_appears_under_its_name() -> None:
    class Late(Net):
        def on_epoch_end(self) -> None:
            self.log("epochs", self.trainer.progress.epoch)

    trainer = fitted(Late(), Data(train=blobs(8)), max_epochs=2)
    assert trainer.metrics["train/epochs"] == 2.0


def test_best_is_judged_by_the_metric_of_its_own_step(tmp_path: Any) -> None:
    class Up(Callback):
        """Overwrites what the run measured: the second of three epochs is best."""

        def on_validation_end(self, trainer: Trainer, metrics: Any) -> None:
            trainer.log_metrics({"val/loss": [3.0, 1.0, 2.0][trainer.progress.epoch - 1]})

    trainer = make_trainer(max_epochs=3, run_dir=tmp_path, callbacks=[Up(), Checkpoint()])
    trainer.fit(Net(), Data(train=blobs(32), val=blobs(8), batch_size=8))
    assert trainer.best == {"step": 8, "metric": "val/loss", "value": 1.0}
    assert trainer.checkpoints.steps() == [8, 12]
    assert trainer.checkpoints.find("best").name == "step-00000008"
