"""A layer trains as a model of that one layer does."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSES, FEATURES, blobs, cross_entropy, make_trainer
from rich.console import Console

from framework import Data, Task, UserError
from framework.callbacks.freeze import Freeze
from framework.callbacks.model_summary import ModelSummary


class Parts(Task):
    """A body and a head, which is a layer or a model of one layer."""

    def __init__(self, *, wrapped: bool, built: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.wrapped, self.built = wrapped, built

    def build_model(self) -> Any:
        body = keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dropout(0.3)])
        head = keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.1))
        parts = {"body": body, "head": keras.Sequential([head]) if self.wrapped else head}
        if self.built:
            parts["head"].build((None, 5))
        return parts | {"slow": self.ema_of(parts["head"], 0.5)}

    def configure_optimizers(self) -> Any:
        return {"body": keras.optimizers.SGD(0.1), "head": keras.optimizers.Adam(0.01)}

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        hidden = self.model["body"](x, training=True)
        return tf.reduce_mean(cross_entropy(y, self.model["head"](hidden)))

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        self.log("loss", cross_entropy(y, self.model["slow"](self.model["body"](x))))


def trained(devices: int = 1, **parts: Any) -> tuple[list[np.ndarray], dict[str, float]]:
    trainer = make_trainer(max_steps=6, devices=devices)
    task = Parts(**parts)
    metrics = trainer.fit(task, Data(train=blobs(20), val=blobs(9, 1), batch_size=8))
    return [w for model in task.model.values() for w in model.get_weights()], metrics


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("built", [True, False])
def test_a_layer_trains_as_a_model_of_it(devices: int, *, built: bool) -> None:
    weights, metrics = trained(devices, wrapped=False, built=built)
    others, expected = trained(devices, wrapped=True, built=built)
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)
    assert metrics == expected
    assert not np.array_equal(weights[2], weights[4])  # the copy follows, and is another


class Alone(Task):
    def build_model(self) -> Any:
        return keras.layers.Dense(1, kernel_initializer="zeros", name="only")

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        return tf.reduce_mean((self.model(x) - y) ** 2)

    def eval_step(self, batch: Any) -> None:
        pass


def test_a_layer_alone_learns_is_listed_and_is_frozen_by_its_name(tmp_path: Any) -> None:
    x = np.random.RandomState(0).randn(8, FEATURES).astype("float32")
    data = Data(train=(x, x[:, :1]), batch_size=8, shuffle=False)
    task, out = Alone(optimizer=keras.optimizers.SGD(0.1)), io.StringIO()
    summary = ModelSummary(console=Console(file=out, width=80))
    make_trainer(max_steps=1, callbacks=[summary], run_dir=tmp_path / "a").fit(task, data)
    slope = -2 * x.T @ x[:, :1] / 8
    np.testing.assert_allclose(task.model.kernel, -0.1 * slope, rtol=1e-5)
    row = ["only", "Dense", "(None,", "1)", str(FEATURES + 1)]
    assert row in [line.split() for line in out.getvalue().splitlines()]
    again = Alone(optimizer=keras.optimizers.SGD(0.1))
    make_trainer(max_steps=1, run_dir=tmp_path / "a").fit(again, data)
    np.testing.assert_array_equal(again.model.kernel, task.model.kernel)
    frozen = Alone()
    make_trainer(max_steps=2, callbacks=[Freeze("only")]).fit(frozen, data)
    assert not np.any(frozen.model.kernel)


def test_a_keras_callback_is_told_that_it_needs_a_model() -> None:
    stop = keras.callbacks.TerminateOnNaN()
    x, _ = blobs(8)
    data = Data(train=(x, x[:, :1]), batch_size=8)
    with pytest.raises(UserError, match=r"needs a keras.Model, and the task has a Dense"):
        make_trainer(max_steps=1, callbacks=[stop]).fit(Alone(), data)
