"""Models as Keras's ecosystem makes them: they train, and resume to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer

from framework import Augment, Data, Task, export, load

ROWS, CLASSES = 32, 3
L = keras.layers


class Made(Task):
    """Train the model that a function makes, as a classifier with one-hot labels."""

    def __init__(self, make: Callable[[], keras.Model]) -> None:
        super().__init__()
        self._make = make

    def build_model(self) -> keras.Model:
        return self._make()

    def configure_optimizers(self) -> keras.Optimizer:
        return keras.optimizers.Adam(0.01)

    def train_step(self, batch: Any) -> tf.Tensor:
        x, y = batch
        loss = keras.losses.categorical_crossentropy(y, self.model(x, training=True), True)
        self.log("loss", tf.reduce_mean(loss))
        return tf.reduce_mean(loss)

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        loss = keras.losses.categorical_crossentropy(y, self.model(x, training=False), True)
        self.log("loss", tf.reduce_mean(loss))


def dense() -> keras.Model:
    return keras.Sequential([keras.Input((12,)), L.Dense(16), L.Dense(CLASSES)])


def lora() -> keras.Model:
    model = dense()
    model.layers[0].enable_lora(2)
    return model


def quantized() -> keras.Model:
    model = dense()
    model.quantize("int8")
    for layer in model.layers:
        layer.enable_lora(2)
    return model


def partly_frozen() -> keras.Model:
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg", alpha=0.35
    )
    for layer in base.layers[:-4]:
        layer.trainable = False
    return keras.Sequential([keras.Input((32, 32, 3)), base, L.Dense(CLASSES)])


def convolutional() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), L.Flatten(), L.Dense(CLASSES)])


def bert() -> keras.Model:
    hub = pytest.importorskip("keras_hub", reason="needs KerasHub: pip install keras-hub")
    backbone = hub.models.BertBackbone(
        vocabulary_size=50, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16
    )
    model = hub.models.BertTextClassifier(backbone, CLASSES, preprocessor=None, dropout=0.1)
    model.backbone.enable_lora(2)
    return model


def data(make: Any) -> Data:
    random = np.random.default_rng(0)
    labels = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, ROWS)]
    inputs: Any = random.random((ROWS, 12), np.float32)
    augment = None
    if make is bert:
        zeros = np.zeros((ROWS, 12), int)
        inputs = {"token_ids": random.integers(1, 50, (ROWS, 12)), "segment_ids": zeros}
        inputs |= {"padding_mask": zeros + 1}
    elif make is partly_frozen:
        inputs = random.random((ROWS, 32, 32, 3), np.float32)
    elif make is convolutional:
        inputs = random.random((ROWS, 8, 8, 3), np.float32)
        augment = Augment(crop=1, layers=[L.RandAugment(value_range=(0, 1)), L.MixUp(), L.CutMix()])
    return Data(train=(inputs, labels), val=(inputs, labels), batch_size=8, augment=augment)


@pytest.mark.parametrize(
    ("make", "trainable", "formats"),
    [
        (lora, 5, ["keras"]),
        (quantized, 6, ["saved_model"]),  # Keras rounds the sum of int8 and LoRA when it saves
        (partly_frozen, 5, []),
        (convolutional, 4, []),
        (bert, 8, ["keras"]),
    ],
)
def test_a_run_resumes_in_mid_epoch_and_its_model_is_taken_away(
    make: Any, trainable: int, formats: list[str], tmp_path: Path
) -> None:
    def fit(run_dir: str, steps: int) -> list[np.ndarray]:
        task = Made(make)
        given = data(make)  # each process would make its own layers
        make_trainer(max_steps=steps, run_dir=tmp_path / run_dir).fit(task, given)
        assert len(task.model.trainable_variables) == trainable
        return task.model.get_weights()

    whole = fit("whole", 6)
    half = fit("parts", 3)
    assert any(not np.array_equal(a, b) for a, b in zip(half, whole, strict=True))
    for ours, unbroken in zip(fit("parts", 6), whole, strict=True):
        np.testing.assert_array_equal(ours, unbroken)

    trained = load(tmp_path / "parts", task=Made(make), checkpoint="last")
    for ours, unbroken in zip(trained.model.get_weights(), whole, strict=True):
        np.testing.assert_array_equal(ours, unbroken)
    inputs = data(make).val[0]
    alone = trained.model(inputs, training=False)
    np.testing.assert_allclose(trained.predict(inputs), alone, rtol=1e-5, atol=1e-6)
    if formats:
        found = export(trained, formats, inputs=inputs, directory=tmp_path / "out")
        assert [*found] == formats
        assert max(found.values()) < 1e-5
