"""TensorFlow's operations, as Keras's: a `.keras` file computes what the step computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from framework.serving import keras_file
from framework.serving.answers import Answers
from framework.sources.inputs import Inputs

X = np.random.default_rng(0).normal(size=(5, 4, 6)).astype("float32")
WEIGHTS = tf.constant(np.random.default_rng(1).normal(size=(6, 3)).astype("float32"))

# Several operations each, since a file takes longer to write than they take to compute.
STEPS: dict[str, Callable[[tf.Tensor], Any]] = {
    "arithmetic": lambda x: (x + 1.5) * (2.0 - x) / tf.maximum(tf.abs(x), 0.5) - tf.minimum(x, 0.1),
    "functions": lambda x: tf.exp(-(x**2)) + tf.tanh(x) * tf.sigmoid(x) + tf.sqrt(tf.abs(x) + 1.0),
    "more functions": lambda x: tf.math.log1p(tf.abs(x)) + tf.math.rsqrt(x**2 + 1.0) + tf.sin(x),
    "rounding": lambda x: tf.round(x * 3) + tf.floor(x) + tf.cast(tf.cast(x, tf.int32), tf.float32),
    "choices": lambda x: tf.where((x > 0) & ~(x >= 1), x, tf.zeros_like(x)) + tf.nn.relu(x),
    "slices": lambda x: x[:, 1:3, ::2] + x[:, -1:, 0, None][..., :1],
    "shapes": lambda x: tf.transpose(tf.reshape(x, [-1, 2, 12]), [0, 2, 1])[..., tf.newaxis],
    "squeezes": lambda x: tf.tile(tf.squeeze(x[:, :1], 1), [1, 2]),
    "joins": lambda x: tf.concat([tf.stack([x[:, 0], x[:, 1]], 1), x], 1),
    "sums": lambda x: (
        tf.reduce_mean(x, [1, 2]) + tf.reduce_max(x, [1, 2]) - tf.reduce_sum(x, [1, 2])
    ),
    "kept sums": lambda x: x - tf.reduce_mean(x, 2, keepdims=True),
    "products": lambda x: tf.matmul(x, x, transpose_b=True) @ tf.ones([4, 2]),
    "weights": lambda x: tf.nn.softmax(tf.nn.bias_add(x[:, 0] @ WEIGHTS, [0.1, 0.2, 0.3])),
    "classes": lambda x: tf.argmax(x[:, 0], 1),
    "places": lambda x: tf.gather(x, [2, 0], axis=2),
    "sizes": lambda x: tf.image.resize(x[..., None], [8, 3]),
    "nearest": lambda x: tf.image.resize(x[..., None], [2, 3], method="nearest"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_file_computes_what_tensorflow_does(name: str, tmp_path: Path) -> None:
    spec = tf.TensorSpec([None, 4, 6], tf.float32)
    answers = Answers.of(STEPS[name], Inputs(spec, None, (), lambda batch: batch), "step")
    trained: Any = SimpleNamespace(answers=answers, task=None, model=keras.layers.Identity())
    keras_file.write(trained, tmp_path / "a.keras", "{}")
    found = keras_file.read(tmp_path / "a.keras", trained)({"inputs": X})["predictions"]
    np.testing.assert_allclose(found, STEPS[name](tf.constant(X)), rtol=1e-5, atol=1e-6)
