"""Noise of a run: a row's own, the same in every engine, moved by no evaluation."""

from __future__ import annotations

import random as python_random
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LogRows, make_trainer

from framework import Data, Task, random


def network() -> keras.Model:
    zeros = keras.initializers.Zeros()
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=zeros)])


class Rows(Task):
    """Logs the noise of every row by the row's number."""

    def build_model(self) -> Any:
        return network()

    def noise_of(self, batch: Any, stage: str) -> None:
        x, row = batch
        noise = random.normal([tf.shape(x)[0]], self.step_seed())
        other = random.normal([tf.shape(x)[0]], self.step_seed(1))
        for i in range(8):
            mine = row == i
            weight = tf.reduce_sum(tf.cast(mine, tf.float32))
            self.log(f"row{i}", tf.reduce_sum(tf.where(mine, noise, 0.0)), weight=weight)
            self.log(f"other{i}", tf.reduce_sum(tf.where(mine, other, 0.0)), weight=weight)

    def train_step(self, batch: Any) -> Any:
        self.noise_of(batch, "train")
        return tf.reduce_mean(self.model(batch[0], training=True) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.noise_of(batch, "val")

    def predict_step(self, batch: Any) -> Any:
        return random.normal([tf.shape(batch[0])[0]], self.step_seed())


X, NUMBERS = np.ones((8, 3), "f4"), np.arange(8)


@pytest.mark.parametrize(
    "options",
    [{}, {"devices": 2}, {"devices": 4}, {"accumulate": 2}, {"accumulate": 4, "devices": 2}],
)
def test_no_two_rows_share_their_noise(options: dict[str, int]) -> None:
    size = 8 // options.get("accumulate", 1)
    data = Data(train=(X, NUMBERS), val=(X, NUMBERS), batch_size=size, eval_batch_size=2)
    trainer = make_trainer(max_steps=2, log_every="1st", val_every="2st", **options)
    seen = []

    trainer.fit(Rows(optimizer="sgd"), data)
    for stage in ("train", "val"):
        for name in ("row", "other"):
            seen += [trainer.metrics[f"{stage}/{name}{i}"] for i in range(8)]
    assert len(set(seen)) == 32


def test_seeds_differ_by_step_and_evaluation_batch_and_repeat_by_evaluation() -> None:
    data = Data(train=(X, NUMBERS), val=(X, NUMBERS), batch_size=8, eval_batch_size=2)
    trainer = make_trainer(max_steps=3)
    task = Rows(optimizer="sgd")
    trainer.fit(task, data)
    one, two = trainer.validate(task, data), trainer.validate(task, data)
    assert one == two
    predicted = trainer.predict(task, Data(predict=(X, NUMBERS), eval_batch_size=2))
    again = trainer.predict(task, Data(predict=(X, NUMBERS), eval_batch_size=2))
    np.testing.assert_array_equal(predicted, again)
    assert len(set(predicted.tolist())) == 8


def test_sets_of_one_evaluation_have_noise_of_their_own() -> None:
    sets = {"a": (X, NUMBERS), "b": (X, NUMBERS)}
    task, trainer = Rows(optimizer="sgd"), make_trainer(max_steps=1)
    found = trainer.fit(task, Data(train=(X, NUMBERS), val=sets, batch_size=8))
    assert all(found[f"val/a/row{i}"] != found[f"val/b/row{i}"] for i in range(8))
    predicted = trainer.predict(task, Data(predict=sets))
    assert not np.intersect1d(predicted["a"], predicted["b"]).size


def test_engines_see_the_same_noise() -> None:
    found = []
    for engine in ("eager", "graph", "step_xla", "loop_xla"):
        trainer = make_trainer(max_steps=1, engine=engine)
        trainer.fit(Rows(optimizer="sgd"), Data(train=(X, NUMBERS), batch_size=8, shuffle=False))
        found.append([trainer.metrics[f"train/row{i}"] for i in range(8)])
    assert found[0] == found[1] == found[2] == found[3]


class Drawing(Task):
    kind = "own"

    def build_model(self) -> Any:
        self.own = keras.random.SeedGenerator(3)
        self.tensorflow = tf.random.Generator.from_seed(4)
        return network()

    def draw(self, shape: Any) -> Any:
        if self.kind == "tensorflow":
            return self.tensorflow.normal(shape)
        return keras.random.normal(shape, seed=self.own if self.kind == "own" else None)

    def train_step(self, batch: Any) -> Any:
        x = batch[0] + self.draw(tf.shape(batch[0]))
        return tf.reduce_mean((self.model(x, training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("drawn", self.draw((2,)))


Z = np.random.RandomState(0).randn(64, 3).astype("f4")
DRAWN = Data(train=(Z, Z[:, :1]), val=(Z, Z[:, :1]), test=(Z, Z[:, :1]), batch_size=8)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("kind", ["own", "global", "tensorflow"])
def test_when_to_validate_changes_no_weight(kind: str, engine: str) -> None:
    weights, drawn = [], set()
    for options in ({"val_every": None}, {"val_every": "1st", "sanity_val_steps": 1}):
        task = type("Kind", (Drawing,), {"kind": kind})(optimizer="sgd")
        trainer = make_trainer(max_steps=5, engine=engine, **options)
        trainer.fit(task, DRAWN)
        weights.append(task.model.get_weights()[0].tobytes())
        drawn |= {trainer.validate(task, DRAWN)["val/drawn"] for _ in range(2)}
    assert weights[0] == weights[1]
    assert len(drawn) == 1


def test_devices_draw_on_as_if_nothing_had_been_validated() -> None:
    weights = []
    for every in (None, "1st"):
        task = Drawing(optimizer="sgd")
        make_trainer(max_steps=4, devices=2, val_every=every).fit(task, DRAWN)
        weights.append(task.model.get_weights()[0].tobytes())
    assert weights[0] == weights[1]


def test_pythons_and_numpys_generators_are_left_alone_where_steps_run_in_python() -> None:
    class Host(Drawing):
        def train_step(self, batch: Any) -> Any:
            self.log("numpy", float(np.random.rand()))
            self.log("python", python_random.random())
            return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

        def eval_step(self, batch: Any) -> None:
            self.log("drawn", float(np.random.rand()) + python_random.random())

    found = []
    for every in (None, "1st"):
        trainer = make_trainer(max_steps=4, engine="eager", val_every=every)
        trainer.fit(Host(optimizer="sgd"), DRAWN)
        found.append((trainer.metrics["train/numpy"], trainer.metrics["train/python"]))
    assert found[0] == found[1]


def test_an_augmentation_that_xla_would_vary_otherwise_runs_as_a_graph(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def by_tensorflow(batch: Any, seed: Any) -> Any:
        return batch[0] + tf.random.stateless_normal(tf.shape(batch[0]), seed), batch[1]

    def by_framework(batch: Any, seed: Any) -> Any:
        return batch[0] + random.normal(tf.shape(batch[0]), seed), batch[1]

    for augment, engine in ((by_tensorflow, "graph"), (by_framework, "loop_xla")):
        trainer = make_trainer(max_steps=1, engine="loop_xla")
        data = Data(train=(X, NUMBERS), batch_size=8, augment=augment)
        trainer.fit(Rows(optimizer="sgd"), data)
        assert trainer.engine == engine
    assert "StatelessRandomNormalV2" in caplog.text


def test_every_validation_of_a_run_draws_the_same_and_no_two_generators_do() -> None:
    class Two(Drawing):
        def build_model(self) -> Any:
            self.other = keras.random.SeedGenerator(9)
            return super().build_model()

        def eval_step(self, batch: Any) -> None:
            self.log("drawn", self.draw((2,)))
            self.log("other", keras.random.normal((2,), seed=self.other))

    rows = LogRows()
    make_trainer(max_steps=3, val_every="1st", callbacks=[rows]).fit(Two(optimizer="sgd"), DRAWN)
    drawn = [(row["val/drawn"], row["val/other"]) for _, row in rows.val]
    assert len(drawn) == 3
    assert len(set(drawn)) == 1
    assert drawn[0][0] != drawn[0][1]
