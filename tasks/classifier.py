"""What the lesson's exercises share: learning to classify images."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from framework import Task


class Classifier(Task):
    """Learns classes from batches of (images, labels); subclasses bring the network.

    Args:
        model: The network's hyperparameters; see `conf/model/`.
        **parts: data, optimizer, loss and metrics, as `Task` takes them.
    """

    def __init__(self, model: Any = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.network = model

    def train_step(self, batch: Any) -> tf.Tensor:
        """Return the loss of one batch."""
        images, labels = batch
        probabilities = self.model(images, training=True)
        self.log_metrics(labels, probabilities)
        return self.loss(labels, probabilities)

    def eval_step(self, batch: Any) -> None:
        """Log the loss and the metrics of one batch."""
        images, labels = batch
        probabilities = self.model(images, training=False)
        self.log("loss", self.loss(labels, probabilities))
        self.log_metrics(labels, probabilities)
