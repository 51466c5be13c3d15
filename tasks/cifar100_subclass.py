"""CIFAR-100 as a `keras.Model` subclass with `__init__` and `call`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tasks.classifier import Classifier


@keras.saving.register_keras_serializable("cifar100_subclass")
class Network(keras.Model):
    """Network B: creates layers in `__init__` and applies them in `call`."""

    def __init__(
        self,
        classes: int = 100,
        conv_filters: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        pool_size: int = 2,
        dense_units: int = 256,
        activation: str = "relu",
        name: str = "cifar100_subclass",
        **options: Any,
    ) -> None:
        super().__init__(name=name, **options)
        self.arguments = {
            "classes": classes,
            "conv_filters": list(conv_filters),
            "kernel_size": kernel_size,
            "pool_size": pool_size,
            "dense_units": dense_units,
            "activation": activation,
        }
        self.features = []
        for filters in conv_filters:
            self.features.append(layers.Conv2D(filters, kernel_size, activation=activation))
            self.features.append(layers.MaxPooling2D(pool_size))
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(dense_units, activation=activation)
        self.classify = layers.Dense(classes, activation="softmax")

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return class probabilities of shape [batch, classes]."""
        x = images
        for layer in self.features:
            x = layer(x)
        return self.classify(self.hidden(self.flatten(x)))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`, which Keras uses to save and load the network."""
        return {**super().get_config(), **self.arguments}


class Cifar100Subclass(Classifier):
    """Network B as a model class."""

    def build_model(self) -> keras.Model:
        """Return the network, not yet built."""
        net = self.network
        return Network(
            classes=net.classes,
            conv_filters=net.conv_filters,
            kernel_size=net.kernel_size,
            pool_size=net.pool_size,
            dense_units=net.dense_units,
            activation=net.activation,
        )
