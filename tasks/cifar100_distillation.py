"""Knowledge distillation (Hinton et al., 2015): a small network learns from a larger one."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import Sequential, layers

from framework import load
from tasks.gallery import Gallery, photo_encoder, sheet


class Cifar100Distillation(Gallery):
    """Train a teacher on labels, and a student on labels and on the teacher's predictions.

    `teacher` is the directory of an earlier run; its teacher is then not trained further. `soft`
    weighs the teacher's predictions, taken at `temperature`, against the labels.
    """

    automatic_optimization = False

    def __init__(
        self, teacher: Any = None, soft: float = 0.5, temperature: float = 2.0, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.teacher, self.soft, self.temperature = teacher, soft, temperature

    def build_model(self) -> dict[str, keras.Model]:
        """Return two networks from images to logits, the student much smaller than the teacher."""
        net, models = self.network, {}
        for name, filters in (("student", net.student_filters), ("teacher", net.teacher_filters)):
            logits = layers.Dense(net.classes, dtype=keras.config.floatx())
            body = photo_encoder(filters, net.kernel_size)
            models[name] = Sequential([body, layers.Flatten(), logits], name=name)
        return models

    def configure_optimizers(self) -> dict[str, keras.Optimizer]:
        """Return an optimizer of the configured kind for each of the two."""
        make = super().configure_optimizers
        return {"student": make(), "teacher": make()}

    def on_setup(self) -> None:
        """Load the weights of a teacher that was trained earlier."""
        if self.teacher:
            trained = load(self.teacher, checkpoint="last").model["teacher"]
            self.model["teacher"].set_weights(trained.get_weights())

    def train_step(self, batch: Any) -> None:
        """Update the student, and the teacher unless it was trained earlier."""
        self.minimize(lambda: self.losses(*batch, training=True))

    def eval_step(self, batch: Any) -> None:
        """Log the accuracy of both networks."""
        self.losses(*batch, training=False)

    def predict_step(self, batch: Any) -> tf.Tensor:
        """Return the student's probabilities."""
        return tf.nn.softmax(self.model["student"](batch[0], training=False))

    def losses(self, images: Any, labels: Any, training: bool) -> dict[str, tf.Tensor]:
        """Return the loss of each network in training, and log both accuracies."""
        student = self.model["student"](images, training=training)
        teacher = self.model["teacher"](images, training=training and not self.teacher)
        self.log("student_accuracy", keras.metrics.sparse_categorical_accuracy(labels, student))
        self.log("teacher_accuracy", keras.metrics.sparse_categorical_accuracy(labels, teacher))
        hard, taught = self.loss(labels, student), self.loss(labels, teacher)
        opinion = tf.nn.softmax(tf.stop_gradient(teacher) / self.temperature)
        soft = tf.nn.softmax_cross_entropy_with_logits(opinion, student / self.temperature)
        loss = self.soft * self.temperature**2 * tf.reduce_mean(soft) + (1 - self.soft) * hard
        self.log("loss", loss)
        return {"student": loss} if self.teacher else {"student": loss, "teacher": taught}

    def pictures(self) -> dict[str, Any]:
        """Return the test images on which the two networks disagree most, in descending order."""
        student, teacher = (tf.nn.softmax(model(self.shown)) for model in self.model.values())
        order = tf.argsort(-keras.losses.kl_divergence(teacher, student))
        return {"disagreement": sheet(tf.gather(self.shown, order))}
