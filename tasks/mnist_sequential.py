"""MNIST as a `keras.Sequential` without an Input: the first batch builds it."""

from __future__ import annotations

import keras
from keras import layers

from tasks.classifier import Classifier


class MnistSequential(Classifier):
    """Network A as a list of layers."""

    def build_model(self) -> keras.Model:
        """Return the layers in order."""
        net = self.network
        model = keras.Sequential(name="mnist_sequential")
        for filters in net.conv_filters:
            model.add(layers.Conv2D(filters, net.kernel_size, activation=net.activation))
        model.add(layers.Flatten())
        model.add(layers.Dense(net.dense_units, activation=net.activation))
        model.add(layers.Dense(net.classes, activation="softmax"))
        return model
