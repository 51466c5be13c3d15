"""Losses that are no mean over rows are found where batches are cut, and no others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSES, FEATURES, Net, blobs, cross_entropy, dense, make_trainer, noisy

from framework import Data, Task, Trainer, UserError, random


class By(Net):
    """A network whose losses of rows are brought together by a function."""

    def __init__(self, reduce: Callable[[Any], Any], **parts: Any) -> None:
        super().__init__(**parts)
        self.reduce, self.seen = reduce, list[Any]()

    def train_step(self, batch: Any) -> Any:
        self.seen.append(batch[0].shape)
        return self.reduce(cross_entropy(batch[1], self.model(batch[0], training=True)))


class ByHand(By):
    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        loss = super().train_step
        self.minimize(lambda: loss(batch))


def fit(task: Task, **options: Any) -> Trainer:
    trainer = make_trainer(max_steps=2, engine="graph", **options)
    trainer.fit(task, Data(train=blobs(32), batch_size=8))
    return trainer


def noise(values: Any) -> Any:
    return random.normal(tf.shape(values), tf.constant([1, 2], tf.int64))


SUMS = {
    "sum": tf.reduce_sum,
    "over the global batch": lambda v: tf.nn.compute_average_loss(v, global_batch_size=8),
    "with a constant": lambda v: tf.reduce_sum(v) + 3.0,
    "with noise": lambda v: tf.reduce_sum(v + 0.5 * noise(v)),
    "beside a mean": lambda v: tf.reduce_mean(v) + 0.5 * tf.reduce_sum(v),
}
MEANS = {
    "mean": tf.reduce_mean,
    "zero": lambda v: tf.reduce_mean(v) * 0.0,
    "noise": lambda v: tf.reduce_mean(v * noise(v)),
    "generator": lambda v: tf.reduce_mean(v) + keras.random.uniform(()),
    "by the rows": lambda v: tf.reduce_sum(v) / tf.cast(tf.shape(v)[0], tf.float32),
}


@pytest.mark.parametrize("options", [{"devices": 2}, {"accumulate": 2}])
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_is_refused(name: str, options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="sum over the batch's rows") as error:
        fit(By(SUMS[name], build=noisy), **options)
    assert "loss_is_mean = False" in str(error.value.fix)


def test_a_sum_is_refused_where_a_task_optimises_by_hand() -> None:
    with pytest.raises(UserError, match="sum over the batch's rows"):
        fit(ByHand(tf.reduce_sum), devices=2)
    fit(ByHand(tf.reduce_mean), devices=2)


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_passes_without_a_word(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "framework")
    fit(By(MEANS[name], build=noisy), accumulate=2)
    fit(By(MEANS[name], build=dense), accumulate=2)
    assert "parts" not in caplog.text


def test_rows_that_are_compared_with_each_other_are_said(caplog: pytest.LogCaptureFixture) -> None:
    fit(By(tf.reduce_logsumexp), accumulate=2)
    assert "the mean of its parts'" in caplog.text
    assert "self.gather" in caplog.text
    caplog.clear()
    fit(By(lambda v: tf.reduce_logsumexp(v)), devices=1)  # nothing is cut
    task = By(tf.reduce_logsumexp)
    task.loss_is_mean = False
    fit(task, accumulate=2)
    assert "parts" not in caplog.text


def test_who_joins_the_rows_of_all_devices_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Joined(By):
        def train_step(self, batch: Any) -> Any:
            values = cross_entropy(batch[1], self.model(batch[0], training=True))
            return tf.reduce_logsumexp(self.gather(values))

    fit(Joined(tf.reduce_mean), devices=2)
    assert "parts" not in caplog.text


@pytest.mark.parametrize("divided", [True, False])
def test_a_mean_over_all_devices_counts_each_row_once(
    divided: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Shared(By):
        def train_step(self, batch: Any) -> Any:
            values = cross_entropy(batch[1], self.model(batch[0], training=True))
            everybody = tf.shape(self.gather(values))[0] if divided else tf.shape(values)[0]
            self.log("all", tf.reduce_mean(self.gather(values)))
            return tf.reduce_sum(values) / tf.cast(everybody, tf.float32)

    fit(Shared(tf.reduce_mean), devices=2)
    assert ("that of a device which has half of it" in caplog.text) == divided


def test_a_ratio_of_sums_is_said_and_rows_of_the_data_are_looked_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Masked(By):
        def train_step(self, batch: Any) -> Any:
            x, y = batch
            values = cross_entropy(y, self.model(x, training=True))
            mask = tf.cast(y == 2, tf.float32)  # made-up labels would be 0 and 1
            return tf.math.divide_no_nan(tf.reduce_sum(values * mask), tf.reduce_sum(mask))

    fit(Masked(tf.reduce_mean), accumulate=2)
    assert "global_mean" in caplog.text


def test_a_sum_over_some_labels_is_refused() -> None:
    class OfOneClass(By):
        def train_step(self, batch: Any) -> Any:
            values = cross_entropy(batch[1], self.model(batch[0], training=True))
            return tf.reduce_sum(tf.where(batch[1] == 2, values, 0.0))

    with pytest.raises(UserError, match="sum over the batch's rows"):
        fit(OfOneClass(tf.reduce_mean), accumulate=2)


def test_the_check_leaves_everything_as_it_was() -> None:
    made = []
    for checked in (True, False):
        task = By(MEANS["generator"], build=noisy, optimizer=keras.optimizers.SGD(0.1))
        task.loss_is_mean = checked
        fit(task, accumulate=2, seed=3)
        made.append((task.seen, [v.numpy() for v in task.model.variables], np.random.rand()))
    (seen, one, _), (also_seen, other, _) = made
    assert seen == also_seen
    for value, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_it_can_be_left_out() -> None:
    task = By(tf.reduce_sum)
    task.loss_is_mean = False
    fit(task, accumulate=2)


# ---- rows along another axis


class Series(Task):
    """Reads [time, rows, features], as recurrent networks of old did."""

    def build_model(self) -> keras.Model:
        return keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES, kernel_initializer="zeros")]
        )

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        assert x.shape[0] == 5
        loss = tf.reduce_mean(cross_entropy(y, self.model(tf.reduce_mean(x, 0), training=True)))
        self.log("rows", tf.cast(tf.shape(y)[0], tf.float32))
        return loss

    def eval_step(self, batch: Any) -> None:
        self.log(
            "loss", tf.reduce_mean(cross_entropy(batch[1], self.model(tf.reduce_mean(batch[0], 0))))
        )


def series(rows: int = 22) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(rows)
    return np.stack([x * (1 + t / 10) for t in range(5)]), y


class Pieces(keras.utils.PyDataset):
    """The same batches, the last one ragged, one after another."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        x, y = series()
        rows = slice(8 * index, 8 * index + 8)
        return x[:, rows], y[rows]


def expected(steps: int, lr: float = 0.5) -> tuple[np.ndarray, float]:
    """Return the weights of softmax regression by gradient descent, and its last mean loss."""
    x, y = series()
    x, one_hot = x.mean(0).astype(np.float64), np.eye(CLASSES)[y]
    weights, bias = np.zeros((FEATURES, CLASSES)), np.zeros(CLASSES)
    for step in range(steps):
        rows = slice(8 * (step % 3), 8 * (step % 3) + 8)
        logits = x[rows] @ weights + bias
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slope = (p - one_hot[rows]) / len(p)
        weights, bias = weights - lr * x[rows].T @ slope, bias - lr * slope.sum(0)
    logits = x @ weights + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return weights, float(-np.log((p * one_hot).sum(1)).mean())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("options", [{}, {"devices": 2}])
def test_rows_may_lie_along_another_axis(stream: bool, options: Any) -> None:
    x, y = series()
    data = Data(
        train=Pieces() if stream else (x, y),
        val=(x, y),
        batch_size=8,
        eval_batch_size=5,
        shuffle=False,
        rows_axis=(1, 0),
    )
    task = Series(optimizer=lambda: keras.optimizers.SGD(0.5))
    metrics = make_trainer(max_epochs=2, engine="graph", **options).fit(task, data)
    weights, loss = expected(6)
    np.testing.assert_allclose(task.model.get_weights()[0], weights, atol=1e-5)
    np.testing.assert_allclose(metrics["val/loss"], loss, rtol=1e-5)


def test_pieces_of_accumulated_batches_are_cut_along_it() -> None:
    x, y = series(32)
    weights = []
    for options, size in (({"accumulate": 2}, 8), ({}, 16)):
        task = Series(optimizer=lambda: keras.optimizers.SGD(0.5))
        data = Data(train=(x, y), batch_size=size, shuffle=False, rows_axis=(1, 0))
        make_trainer(max_epochs=2, engine="graph", **options).fit(task, data)
        weights.append(task.model.get_weights()[0])
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (-1, "rows_axis is -1"),
        ("rows", "rows_axis is 'rows'"),
        ((1, 0, 0), "does not have the structure"),
        (2, "no axis 2"),
    ],
)
def test_an_axis_that_is_none(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_trainer(max_steps=1).fit(
            Series(optimizer="sgd"), Data(train=series(), batch_size=8, rows_axis=given)
        )


def test_a_stream_whose_batches_cannot_be_put_together() -> None:
    with pytest.raises(UserError, match="joined along their first axis"):
        make_trainer(max_steps=1, accumulate=2).fit(
            Series(optimizer="sgd"), Data(train=Pieces(), rows_axis=(1, 0))
        )


def test_a_step_that_wants_more_than_its_part_of_the_rows() -> None:
    class Pairs(Task):
        def build_model(self) -> keras.Model:
            return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(2)])

        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean(tf.square(self.model(batch[0]) - self.model(batch[1])))

        def eval_step(self, batch: Any) -> None: ...

    x = np.random.RandomState(0).rand(3, 2, 8, FEATURES).astype("float32")
    data = Data(train=tf.data.Dataset.from_tensor_slices(x))
    with pytest.raises(UserError, match="part of a batch's rows") as error:
        make_trainer(max_steps=1, devices=2).fit(Pairs(optimizer="sgd"), data)
    assert "rows_axis=1" in str(error.value.fix)
    data = Data(train=tf.data.Dataset.from_tensor_slices(x), rows_axis=1)
    make_trainer(max_steps=1, devices=2).fit(Pairs(optimizer="sgd"), data)
