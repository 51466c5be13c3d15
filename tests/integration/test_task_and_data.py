"""What a task knows of its data: batches to adapt to, none at all, and steps that run in Python."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, blobs, make_trainer

from framework import Data, Steps, Task, UserError, random


class Normalized(Task):
    """Linear regression on inputs that a layer brings to mean 0 and variance 1."""

    def build_model(self) -> Any:
        self.normalize = keras.layers.Normalization()
        self.seen: list[Any] = []
        if self.train_data is not None:
            self.seen = list(self.train_data.as_numpy_iterator())
            self.normalize.adapt(self.train_data.map(lambda x, y: x))
        return keras.Sequential([self.normalize, keras.layers.Dense(1)])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", (self.model(batch[0]) - batch[1]) ** 2)


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    x = (5 + 3 * np.random.RandomState(0).randn(count, FEATURES)).astype("float32")
    return x, x[:, :1]


def of_kind(kind: str, x: np.ndarray, y: np.ndarray) -> Any:
    if kind == "arrays":
        return x, y
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    def batches(epoch: int) -> Any:
        for start in range(0, len(x), 8):
            yield x[start : start + 8], y[start : start + 8]

    return batches


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("kind", ["arrays", "dataset", "generator"])
def test_a_layer_is_adapted_to_the_training_data(kind: str, devices: int) -> None:
    x, y = rows(21)
    task = Normalized(optimizer="sgd")
    trainer = make_trainer(max_epochs=2, devices=devices)
    # The step sees halves, and so does the layer.
    data = Data(train=of_kind(kind, x, y), batch_size=8, map=lambda b: (b[0] / 2, b[1]))
    trainer.fit(task, data)
    assert [len(batch[0]) for batch in task.seen] == [8, 8, 5]
    np.testing.assert_allclose(np.concatenate([b[0] for b in task.seen]), x / 2)
    expected = keras.layers.Normalization()
    expected.adapt(x / 2)
    np.testing.assert_allclose(task.normalize.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(task.normalize.variance, expected.variance, rtol=1e-5)
    assert task.train_data is None


def test_looking_at_the_data_changes_nothing_and_sees_no_row_held_back(tmp_path: Any) -> None:
    class Looks(Normalized):
        looks = True

        def build_model(self) -> Any:
            if self.looks:
                self.given = np.concatenate([b[1] for b in self.train_data.as_numpy_iterator()])
            return keras.Sequential([keras.layers.Dense(1)])

    y = np.arange(20, dtype="float32")[:, None]
    data = Data(train=(np.ones((20, 3), "float32"), y), batch_size=4, val_fraction=0.25)
    weights = []
    for looks in (True, False):
        task = Looks(optimizer="sgd")
        task.looks = looks
        make_trainer(max_epochs=2).fit(task, data)
        weights.append(task.model.get_weights()[0])
        if looks:
            assert len(task.given) == 15
            held_back = set(y.ravel()) - set(task.given.ravel())
            assert len(held_back) == 5
    np.testing.assert_array_equal(*weights)


def test_what_was_adapted_comes_back_where_there_is_no_training_data(tmp_path: Any) -> None:
    x, y = rows(16)
    make_trainer(max_epochs=1, run_dir=tmp_path).fit(Normalized(), Data(train=(x, y)))
    again = Normalized()
    make_trainer(run_dir=tmp_path).validate(again, Data(val=(x, y)))
    assert not again.seen
    np.testing.assert_allclose(again.normalize.mean[0], x.mean(0), rtol=1e-5)


class Makes(Task):
    """Draws its examples by their numbers: linear regression without data."""

    def build_model(self) -> Any:
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")]
        )

    def train_step(self, batch: Any) -> Any:
        self.log("first", tf.cast(batch[0], tf.float32))
        x = tf.map_fn(
            lambda n: random.normal([3], tf.stack([n, 0])), batch, fn_output_signature=tf.float32
        )
        return tf.reduce_mean((self.model(x, training=True) - x[:, :1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("number", tf.cast(batch, tf.float32))


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_steps_without_data_are_the_same_on_devices_and_in_pieces(
    devices: int, accumulate: int
) -> None:
    task = Makes(optimizer=keras.optimizers.SGD(0.1))
    trainer = make_trainer(max_epochs=2, devices=devices, accumulate=accumulate)
    metrics = trainer.fit(task, Data(train=Steps(4), val=Steps(2), batch_size=4))
    assert metrics["val/number"] == 3.5  # of 0 to 7
    w, b, seen = np.zeros((3, 1)), np.zeros(1), 0
    for size in [4] * 8 if accumulate == 1 else [12, 4, 12, 4]:
        numbers, seen = range(seen, seen + size), seen + size
        x = np.stack([random.normal([3], tf.constant([n, 0], tf.int64)) for n in numbers])
        error = x @ w + b - x[:, :1]
        w, b = w - 0.1 * 2 * x.T @ error / size, b - 0.1 * 2 * error.mean(0)
    np.testing.assert_allclose(task.model.get_weights()[0], w, rtol=1e-4, atol=1e-6)


def test_steps_count_as_others_do_and_go_on_after_a_stop(tmp_path: Any) -> None:
    data = Data(train=Steps(5), batch_size=2)
    whole = Makes(optimizer="sgd")
    trainer = make_trainer(max_epochs=3)
    trainer.fit(whole, data)
    assert (trainer.progress.step, trainer.progress.examples, trainer.total_steps) == (15, 30, 15)
    make_trainer(max_steps=7, run_dir=tmp_path).fit(Makes(optimizer="sgd"), data)
    resumed = Makes(optimizer="sgd")
    make_trainer(max_epochs=3, run_dir=tmp_path).fit(resumed, data)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Bandit(Task):
    """Asks an environment in Python, as reinforcement learning does."""

    needs_eager = True

    def build_model(self) -> Any:
        self.asked: list[int] = []
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])

    def train_step(self, batch: Any) -> Any:
        scores = self.model(tf.ones((1, 1)), training=True)
        arm = int(np.argmax(scores.numpy()))
        self.asked.append(arm)
        return -tf.nn.log_softmax(scores)[0, arm] * (1.0 if arm else -1.0)

    def eval_step(self, batch: Any) -> None:
        self.log("arm", int(np.argmax(self.model(tf.ones((1, 1))).numpy())))


def test_a_task_that_needs_python_runs_in_python_and_the_next_one_does_not() -> None:
    trainer, task = make_trainer(max_steps=3, engine="auto"), Bandit(optimizer="sgd")
    trainer.fit(task, Data(train=Steps(3), val=Steps(1), batch_size=1))
    assert (trainer.engine, len(task.asked)) == ("eager", 3)
    assert trainer.config.engine == "eager"
    x, y = blobs(8)
    trainer.predict(Normalized(), Data(predict=(x, y)))
    assert trainer.config.engine == "auto"
    with pytest.raises(UserError, match="needs_eager"):
        make_trainer(max_steps=1, engine="loop_xla").fit(task, Data(train=Steps(1)))


def test_a_model_that_such_a_step_cannot_build_is_asked_for_built() -> None:
    class Unbuilt(Bandit):
        def build_model(self) -> Any:
            return keras.Sequential([keras.layers.Dense(2)])

    with pytest.raises(UserError) as error:
        make_trainer(max_steps=1, engine="auto").fit(Unbuilt(), Data(train=Steps(1)))
    assert "Return a built model" in error.value.fix
