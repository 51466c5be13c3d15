"""The shared base of the lesson's exercises: image classification."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from framework import Task, UserError


class Classifier(Task):
    """Learn classes from batches of (images, labels); subclasses define the network.

    Args:
        model: The network's hyperparameters; see `conf/model/`.
        **parts: data, optimizer, loss and metrics; the arguments of `Task`.
    """

    def __init__(self, model: Any = None, **parts: Any) -> None:
        super().__init__(**parts)
        self._network = model
        if self.loss is None:
            self.loss = _missing_loss

    @property
    def network(self) -> Any:
        """The network's hyperparameters, as attributes."""
        if self._network is None:
            raise _none_chosen(
                "model", "model=network_a (for MNIST) or model=network_b (for CIFAR)"
            )
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


def _missing_loss(*_: Any) -> Any:
    raise _none_chosen("loss", "loss=sparse_categorical_crossentropy, or another of --help")


def _none_chosen(part: str, choices: str) -> UserError:
    what = f"A classifier needs a {part}, but none is chosen"
    return UserError(what, where=part, fix=f"Give {choices}.")
