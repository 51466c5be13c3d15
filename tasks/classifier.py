"""The shared base of the lesson's exercises: image classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from framework import Task, UserError
from tasks.class_weights import ClassWeights, of_classes, of_rows


class Classifier(Task):
    """Learn classes from batches of (images, labels); subclasses define the network.

    A third part of a batch is the weight of each row in the loss. As in Keras, the loss is the sum
    of the weighted losses divided by the number of rows, not by the sum of weights. Weights of
    classes count in training only, those of rows in evaluations too. Metrics count every row once,
    like `compile(metrics=...)`.

    Args:
        model: The network's hyperparameters; see `conf/model/`.
        class_weight: The weight of each class in the training loss: `{0: 1, 1: 5}`, or `balanced`
            for n / (k * count). It multiplies the weights of rows.
        **parts: data, optimizer, loss and metrics; the arguments of `Task`.
    """

    def __init__(
        self,
        model: Any = None,
        class_weight: Mapping[int, float] | str | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self._network = model
        self.class_weights = ClassWeights(class_weight)
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
        images, labels, weights = self.weighted(batch, by_class=True)
        probabilities = self.model(images, training=True)
        self.log_metrics(labels, probabilities)
        return self.weighted_loss(labels, probabilities, weights)

    def eval_step(self, batch: Any) -> None:
        """Log the loss and the metrics of one batch."""
        images, labels, weights = self.weighted(batch)
        probabilities = self.model(images, training=False)
        self.log("loss", self.weighted_loss(labels, probabilities, weights))
        self.log_metrics(labels, probabilities)

    def on_fit_end(self) -> None:
        """Forget the counted classes: another `fit` may have other data."""
        self.class_weights.forget()

    def weighted(self, batch: Any, *, by_class: bool = False) -> tuple[Any, Any, Any]:
        """Return a batch's images and labels, and the weight of each row; None if all weigh 1.

        Args:
            batch: (images, labels), or (images, labels, weights).
            by_class: Include the weights of classes.
        """
        images, labels, *rest = batch
        weights = of_rows(rest[0], labels) if rest else None
        if by_class and self.class_weights:
            own = of_classes(labels, self.class_weights.table(lambda: self.train_data))
            weights = own if weights is None else weights * own
        return images, labels, weights

    def weighted_loss(self, labels: Any, probabilities: Any, weights: Any) -> tf.Tensor:
        """Return the loss of a batch: sum(weight * loss of the row) / number of rows."""
        if weights is None:
            return self.loss(labels, probabilities)
        if isinstance(self.loss, keras.losses.Loss):
            return self.loss(labels, probabilities, sample_weight=weights)
        each = tf.convert_to_tensor(self.loss(labels, probabilities))
        if each.shape.rank != 1:
            raise UserError(
                f"weights need a loss of each row, and this one has the shape {each.shape}",
                where="loss",
                fix="Give a keras.losses.Loss, or a function that returns one value per row.",
            )
        return tf.reduce_mean(each * tf.cast(weights, each.dtype))


def _missing_loss(*_: Any) -> Any:
    raise _none_chosen("loss", "loss=sparse_categorical_crossentropy, or another of --help")


def _none_chosen(part: str, choices: str) -> UserError:
    what = f"A classifier needs a {part}, but none is chosen"
    return UserError(what, where=part, fix=f"Give {choices}.")
