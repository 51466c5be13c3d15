"""FLOPs of graphs, against closed forms."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

from framework.core.flops import count_flops

BATCH = 4


def forward(layer: Any, *shape: int) -> int:
    layer.build((BATCH, *shape))
    traced = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec([BATCH, *shape]))
    return count_flops(traced.graph.get_operations(), traced.graph.outputs)


LAYERS = {
    "dense": (lambda: keras.layers.Dense(5), (3,), 2 * 3 * 5),
    "dense on a sequence": (lambda: keras.layers.Dense(5), (7, 3), 2 * 7 * 3 * 5),
    "convolution": (
        lambda: keras.layers.Conv2D(8, 3, strides=2, padding="same"),
        (9, 9, 3),
        2 * (5 * 5 * 8) * (3 * 3 * 3),
    ),
    "convolution in groups": (
        lambda: keras.layers.Conv2D(8, 3, groups=2),
        (9, 9, 4),
        2 * (7 * 7 * 8) * (3 * 3 * 2),
    ),
    "convolution in one dimension": (
        lambda: keras.layers.Conv1D(6, 3),
        (9, 4),
        2 * (7 * 6) * (3 * 4),
    ),
    "depthwise": (
        lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
        (6, 6, 5),
        2 * (4 * 4 * 10) * 9,
    ),
    "transposed": (  # every input meets the whole kernel once
        lambda: keras.layers.Conv2DTranspose(8, 3, strides=2),
        (5, 5, 3),
        2 * (5 * 5 * 3) * (3 * 3 * 8),
    ),
    # Four gates of units x (inputs + units), at each of 10 steps.
    "lstm": (lambda: keras.layers.LSTM(6), (10, 3), 10 * 2 * 4 * 6 * (3 + 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name: str) -> None:
    make, shape, flops = LAYERS[name]
    assert forward(make(), *shape) == BATCH * flops


def test_attention() -> None:
    heads, size, length, width = 2, 5, 7, 6
    layer = keras.layers.MultiHeadAttention(heads, size)
    spec = tf.TensorSpec([BATCH, length, width])
    layer(tf.zeros(spec.shape), tf.zeros(spec.shape))
    traced = tf.function(lambda x: layer(x, x)).get_concrete_function(spec)
    projections = 4 * 2 * length * width * heads * size
    products = 2 * 2 * heads * length * length * size
    found = count_flops(traced.graph.get_operations())
    assert found == BATCH * (projections + products)


def test_the_gradient_of_a_dense_layer_costs_twice_the_layer_and_half_of_it_for_the_first() -> None:
    layers = [keras.layers.Dense(5), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *layers])

    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        return tape.gradient(loss, model.trainable_variables)

    traced = tf.function(step).get_concrete_function(tf.TensorSpec([BATCH, 3]))
    first, second = 2 * 3 * 5, 2 * 5 * 2
    # The gradient with respect to the data is not needed.
    assert count_flops(traced.graph.get_operations()) == BATCH * (2 * first + 3 * second)


def test_a_gradient_of_a_convolution_counts_both_of_its_products() -> None:
    kernel = tf.Variable(tf.ones([3, 3, 2, 4]))

    def step(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.nn.conv2d(x, kernel, 1, "VALID"))
        return tape.gradient(loss, [x, kernel])

    traced = tf.function(step).get_concrete_function(tf.TensorSpec([BATCH, 8, 8, 2]))
    assert count_flops(traced.graph.get_operations()) == 3 * BATCH * 2 * (6 * 6 * 4) * (3 * 3 * 2)
