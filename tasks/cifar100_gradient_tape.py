"""CIFAR-100 with the training step written out: a tape, gradients, an update.

The lesson's own loop reaches 4.7 %: it appends a sample to the batch only when it flushes the
batch, so it drops 31 of every 32 samples and each batch holds one image. With whole batches, the
same step does as well as `compile` and `fit`. `task.batching=lesson` restores the lesson's batches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf

from framework import Data, UserError
from tasks.cifar100_subclass import Cifar100Subclass

LESSON_BATCH = 32


class Cifar100GradientTape(Cifar100Subclass):
    """Network B, trained by a hand-written `tf.GradientTape` step.

    Args:
        batching: `full`: whole batches. `lesson`: one image out of every 32, in batches of one,
            unshuffled, as in the lesson's loop.
        **parts: The arguments of `Classifier`.
    """

    automatic_optimization = False

    def __init__(self, batching: str = "full", **parts: Any) -> None:
        super().__init__(**parts)
        if batching not in ("full", "lesson"):
            raise UserError(
                f"batching is {batching!r}", where="task.batching", fix="Give full or lesson."
            )
        self.batching = batching

    def build_data(self) -> Data:
        """Return the data; for the lesson's batching, one image out of every 32."""
        data = super().build_data()
        if self.batching == "full":
            return data
        kept = slice(LESSON_BATCH - 1, None, LESSON_BATCH)
        chosen = tuple(each[kept] for each in data.train)
        return replace(data, train=chosen, batch_size=1, shuffle=False)

    def train_step(self, batch: Any) -> None:
        """Open a tape, call the model, and apply the gradients of its loss."""
        images, labels, weights = self.weighted(batch, by_class=True)
        with tf.GradientTape() as tape:
            probabilities = self.model(images, training=True)
            loss = self.weighted_loss(labels, probabilities, weights)
        self.apply_gradients(tape, loss)
        self.log("loss", loss)
        self.log_metrics(labels, probabilities)
