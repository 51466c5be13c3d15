"""CIFAR-100 with the functional API, from `Input((32, 32, 3))`."""

from __future__ import annotations

import keras
from keras import layers

from tasks.classifier import Classifier


class Cifar100Functional(Classifier):
    """Network B as a graph of layers."""

    def build_model(self) -> keras.Model:
        """Return the graph from the input to the probabilities."""
        net = self.network
        inputs = x = keras.Input((32, 32, 3))
        for filters in net.conv_filters:
            x = layers.Conv2D(filters, net.kernel_size, activation=net.activation)(x)
            x = layers.MaxPooling2D(net.pool_size)(x)
        x = layers.Flatten()(x)
        x = layers.Dense(net.dense_units, activation=net.activation)(x)
        outputs = layers.Dense(net.classes, activation="softmax")(x)
        return keras.Model(inputs, outputs, name="cifar100_functional")
