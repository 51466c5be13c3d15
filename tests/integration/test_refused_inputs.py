"""What would be wrong in silence is refused or counted rightly: data, logs, predictions, names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, Net, blobs, dense, make_trainer

from framework import Data, UserError, random
from framework.metrics import named_metrics

X, Y = blobs(16)
DATA = Data(train=(X, Y), batch_size=8, shuffle=False)


def fit(task: Net, data: Data = DATA, **options: Any) -> dict[str, float]:
    return make_trainer(max_epochs=1, **options).fit(task, data)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_value_of_no_elements_has_no_weight(engine: str) -> None:
    class Some(Net):
        def train_step(self, batch: Any) -> Any:
            self.log("big", tf.boolean_mask(batch[0], batch[0] > limit))
            return super().train_step(batch)

    limit = float(np.sort(X[:8].ravel())[-1])  # none of the first batch is above it
    x = np.concatenate([X[:8], X[8:] + 10])
    metrics = fit(Some(dense), Data(train=(x, Y), batch_size=8, shuffle=False), engine=engine)
    assert metrics["train/big"] == pytest.approx(x[8:][x[8:] > limit].mean(), rel=1e-5)


def test_two_metrics_of_one_name() -> None:
    with pytest.raises(UserError, match="two metrics are called '<lambda>'"):
        named_metrics([lambda y, p: y, lambda y, p: p])
    with pytest.raises(UserError, match="two metrics are called 'a'"):
        named_metrics([keras.metrics.Mean(name="a"), keras.metrics.Sum(name="a")])


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (lambda x: tf.boolean_mask(x, x[:, 0] > 1e9), "0 rows for a batch of 10"),
        (lambda x: None, "returned None"),
        (lambda x: tf.RaggedTensor.from_row_lengths(x[:, 0], [4, 6]), "a RaggedTensor"),
        (tf.reduce_sum, "a single number for a whole batch"),
    ],
)
def test_predictions_have_a_row_for_each_example(say: Callable[[Any], Any], message: str) -> None:
    class Says(Net):
        def predict_step(self, batch: Any) -> Any:
            return say(batch)

    with pytest.raises(UserError, match=message):
        make_trainer().predict(Says(dense), Data(predict=X[:10]))


@pytest.mark.parametrize("name", ["loss", "metrics", "data", "optimizer"])
def test_a_method_named_as_an_attribute_of_tasks(name: str) -> None:
    kind = type("Shadowed", (Net,), {name: lambda self, batch: batch})
    with pytest.raises(UserError, match=f"{name} is a method of the task"):
        fit(kind(dense))


@pytest.mark.parametrize("read", ["step_seed", "global_step"])
@pytest.mark.parametrize("where", ["map", "augment"])
def test_what_would_be_a_constant_of_a_compiled_function(read: str, where: str) -> None:
    task = Net(dense)

    def constant(batch: Any, seed: Any = None) -> Any:
        value = task.step_seed()[0] if read == "step_seed" else task.global_step
        return batch[0] + 0.0 * tf.cast(value, tf.float32), batch[1]

    options: Any = {where: constant if where == "augment" else lambda batch: constant(batch)}
    with pytest.raises(UserError, match="outside of a step"):
        fit(task, Data(train=(X, Y), batch_size=8, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": lambda x, y: (x, y)}, "missing 1 required positional argument"),
        ({"map": lambda batch: None}, "Data.map returned None"),
        ({"augment": lambda batch: batch}, "takes 1 positional argument but 2"),
        ({"augment": lambda batch, seed: None}, "Data.augment returned None"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_functions_of_a_batch_are_blamed_for_their_own(
    options: Any, message: str, stream: bool
) -> None:
    train = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8) if stream else (X, Y)
    with pytest.raises(UserError, match=message) as error:
        fit(Net(dense), Data(train=train, batch_size=8, **options))
    assert f"Data.{next(iter(options))}" in str(error.value.where)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ma.masked_array(X, X > 0), "a masked array"),
        (X.astype(np.longdouble), "an array of float128"),
        (np.zeros(16, [("a", "f4"), ("b", "f4")]), "an array of"),
    ],
)
def test_arrays_that_would_lose_something(x: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(Net(dense), Data(train=(x, Y), batch_size=8))


def test_lists_of_numbers_from_a_generator() -> None:
    def batches(epoch: int) -> Any:
        yield X.tolist(), Y.tolist()

    with pytest.raises(UserError, match="lists of Python numbers"):
        fit(Net(dense), Data(train=batches))


def test_a_stream_of_unknown_rank() -> None:
    def rows(i: Any) -> Any:
        x, y = tf.numpy_function(lambda i: (X[:8], Y[:8]), [i], (tf.float32, tf.int64))
        return x, tf.ensure_shape(y, [8])

    class Shaped(Net):
        def train_step(self, batch: Any) -> Any:
            return super().train_step((tf.ensure_shape(batch[0], [None, FEATURES]), batch[1]))

    data = Data(train=tf.data.Dataset.range(2).map(rows))
    build = lambda: keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(3)])  # noqa: E731
    assert np.isfinite(fit(Shaped(build), data)["train/loss"])


class InASet(Net):
    """Keeps generators where their order is another in each process."""

    def build_model(self) -> Any:
        self.kept = {keras.random.SeedGenerator(i) for i in range(3)}
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        noise = sum(keras.random.normal((), seed=each) for each in self.kept)
        return super().train_step(batch) + 0.0 * noise


class Queued(Net):
    def build_model(self) -> Any:
        self.queue = tf.queue.FIFOQueue(100, [tf.float32], shapes=[()])
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        self.queue.enqueue(1.0)
        return super().train_step(batch)


class Read(Net):
    def build_model(self) -> Any:
        self.numbers = iter(tf.data.Dataset.range(100))
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        return super().train_step(batch) + 0.0 * tf.cast(next(self.numbers), tf.float32)


@pytest.mark.parametrize("kind", [InASet, Queued, Read])
def test_what_changes_and_no_checkpoint_would_hold(kind: type[Net], tmp_path: Any) -> None:
    build = lambda: keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(3)])  # noqa: E731
    with pytest.raises(UserError, match="which no checkpoint would store"):
        fit(kind(build), run_dir=tmp_path)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: random.normal([None], seed),
        lambda seed: random.uniform([-1], seed),
        lambda seed: random.permutation(-3, seed),
        lambda seed: random.shuffle(tf.constant(1), seed),
        lambda seed: random.normal([2], keras.random.SeedGenerator(1)),
        lambda seed: random.uniform([2], seed, -3e38, 3e38),
    ],
)
def test_draws_that_cannot_be_made(draw: Callable[[Any], Any]) -> None:
    with pytest.raises(UserError):
        draw(tf.constant([1, 2], tf.int64))


def test_a_tensor_that_every_part_needs_whole() -> None:
    class Squared(Net):
        def train_step(self, batch: Any) -> Any:
            x = tf.matmul(batch["every"], batch["x"])
            return super().train_step((x, batch["y"]))

    def batches(epoch: int) -> Any:
        yield {"every": np.eye(6, dtype="f4"), "x": X[:6], "y": Y[:6]}

    build = lambda: keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(3)])  # noqa: E731
    axes = {"every": None, "x": None, "y": None}
    options: Any = {"devices": 2, "engine": "graph"}
    fit(Squared(build), Data(train=batches, rows_axis=axes), **options)
    with pytest.raises(UserError, match="on a part of a batch") as error:
        fit(Squared(build), Data(train=batches), **options)
    assert "rows_axis" in error.value.fix


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gpus", "devices"), ("lr", "optimizer"), ("gradient_clip_val", "clip_norm")],
)
def test_options_that_other_trainers_have(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"has no option '{name}'") as error:
        make_trainer(**{name: 1})
    assert meant in error.value.fix
