"""SimCLR (Chen et al., 2020): learn image representations without labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import Input, Sequential, layers
from keras.losses import sparse_categorical_crossentropy

from tasks.gallery import Gallery, alternating, photo_encoder, sheet
from tasks.views import Views


def nt_xent(left: tf.Tensor, right: tf.Tensor, temperature: float) -> tf.Tensor:
    """Return the loss of finding, for each view, its partner in the same row among all others."""
    views, count = tf.math.l2_normalize(tf.concat([left, right], 0), axis=1), tf.shape(left)[0]
    likeness = tf.matmul(views, views, transpose_b=True) / temperature
    likeness = tf.linalg.set_diag(likeness, tf.fill([2 * count], likeness.dtype.min))
    partner = tf.roll(tf.range(2 * count), count, axis=0)
    return tf.reduce_mean(sparse_categorical_crossentropy(partner, likeness, from_logits=True))


class Cifar100Simclr(Gallery):
    """Pull two views of an image together and push all others apart, without labels.

    Meanwhile a linear probe learns the classes, to measure the quality of the representation; its
    gradients do not reach the encoder. `views` maps images and a seed to a view, `contrast` weighs
    the contrastive loss (0: the encoder is not trained), and `temperature` is that of `nt_xent`.
    """

    def __init__(
        self, views: Any = None, contrast: float = 1.0, temperature: float = 0.2, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.views, self.contrast, self.temperature = views or Views(), contrast, temperature

    def build_model(self) -> dict[str, keras.Model]:
        """Return the encoder, the projection head, and the probe."""
        net, width, floats = self.network, self.network.filters[-1], keras.config.floatx()
        body = photo_encoder(net.filters, net.kernel_size)
        head = [layers.Dense(width, activation="relu"), layers.Dense(net.projection, dtype=floats)]
        return {
            "encoder": Sequential([body, layers.GlobalAveragePooling2D(dtype=floats)]),
            "head": Sequential([Input((width,)), *head]),
            "probe": Sequential([Input((width,)), layers.Dense(net.classes, dtype=floats)]),
        }

    def train_step(self, batch: Any) -> tf.Tensor:
        """Return the contrastive loss and the probe's."""
        return sum(self.losses(*batch, training=True))

    def eval_step(self, batch: Any) -> None:
        """Log the probe's accuracy and both losses."""
        self.log("loss", sum(self.losses(*batch, training=False)))

    def losses(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> list[tf.Tensor]:
        """Return both losses. Negatives come from all devices; the probe's test uses no views."""
        views = tf.concat([self.views(images, self.step_seed(draw)) for draw in (0, 1)], 0)
        features = self.model["encoder"](views, training=training)
        left, right = tf.split(self.model["head"](features, training=training), 2)
        contrast = nt_xent(self.gather(left), self.gather(right), self.temperature)
        seen = features if training else self.model["encoder"](images)
        logits = self.model["probe"](tf.stop_gradient(seen))
        labels = tf.tile(labels, [2]) if training else labels
        self.log("probe_accuracy", keras.metrics.sparse_categorical_accuracy(labels, logits))
        self.log("contrast", contrast)
        return [self.contrast * contrast, self.loss(labels, logits)]

    def pictures(self) -> dict[str, Any]:
        """Return pairs of views, and test images, each followed by the most similar ones."""
        views = [self.views(self.shown[:32], [self.seed, draw]) for draw in (0, 1)]
        codes = tf.math.l2_normalize(self.model["encoder"](self.shown), axis=1)
        nearest = tf.argsort(-tf.matmul(codes[:8], codes, transpose_b=True))[:, :8]
        alike = tf.gather(self.shown, tf.reshape(nearest, [-1]))
        return {"views": sheet(alternating(*views)), "neighbours": sheet(alike)}
