"""MNIST with the functional API, from `Input((28, 28, 1))`."""

from __future__ import annotations

import keras
from keras import layers

from tasks.classifier import Classifier


class MnistFunctional(Classifier):
    """Network A as a graph of layers."""

    def build_model(self) -> keras.Model:
        """Return the graph from the input to the probabilities."""
        net = self.network
        inputs = x = keras.Input((28, 28, 1))
        for filters in net.conv_filters:
            x = layers.Conv2D(filters, net.kernel_size, activation=net.activation)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(net.dense_units, activation=net.activation)(x)
        outputs = layers.Dense(net.classes, activation="softmax")(x)
        return keras.Model(inputs, outputs, name="mnist_functional")
