"""What the lesson's exercises share: learning to classify images."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from framework import Task, UserError


class Classifier(Task):
    """Learns classes from batches of (images, labels); subclasses bring the network.

    Args:
        model: The network's hyperparameters; see `conf/model/`.
        **parts: data, optimizer, loss and metrics, as `Task` takes them.
    """

    def __init__(self, model: Any = None, **parts: Any) -> None:
        super().__init__(**parts)
        _need("loss", self.loss, "loss=sparse_categorical_crossentropy, or another of --help")
        self._network = model

    @property
    def network(self) -> Any:
        """The network's hyperparameters, as attributes."""
        choices = "model=network_a (for MNIST) or model=network_b (for CIFAR)"
        _need("model", self._network, choices)
        return self._network

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


def _need(part: str, given: Any, choices: str) -> None:
    if given is None:
        raise UserError(
            f"A classifier needs a {part}, and none is chosen", where=part, fix=f"Give {choices}."
        )
