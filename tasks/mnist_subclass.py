"""MNIST as a `keras.Model` subclass with `__init__` and `call`."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tasks.classifier import Classifier


class Network(keras.Model):
    """Network A: layers made in `__init__`, applied in `call`."""

    def __init__(self, net: Any) -> None:
        super().__init__(name="mnist_subclass")
        self.features = []
        for filters in net.conv_filters:
            conv = layers.Conv2D(filters, net.kernel_size, activation=net.activation)
            self.features.append(conv)
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(net.dense_units, activation=net.activation)
        self.classify = layers.Dense(net.classes, activation="softmax")

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return class probabilities of shape [batch, classes]."""
        x = images
        for layer in self.features:
            x = layer(x)
        return self.classify(self.hidden(self.flatten(x)))


class MnistSubclass(Classifier):
    """Network A as a class of its own."""

    def build_model(self) -> keras.Model:
        """Return the network, not built yet."""
        return Network(self.network)
