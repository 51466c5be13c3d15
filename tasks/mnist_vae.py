"""A variational autoencoder (Kingma and Welling, 2014) for digits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import Input, layers, ops

from tasks.gallery import Gallery, alternating, digit_decoder, sheet


@keras.saving.register_keras_serializable("mnist_vae")
class Latent(layers.Layer):
    """Sample codes from the encoder's distribution; add `beta` times its divergence to the loss."""

    def __init__(self, beta: float, **options: Any) -> None:
        super().__init__(**options)
        self.beta = beta

    def call(self, mean: Any, log_variance: Any, noise: Any) -> Any:
        """Return one code per row."""
        terms = 1 + log_variance - mean**2 - ops.exp(log_variance)
        self.add_loss(-0.5 * self.beta * ops.mean(ops.sum(terms, axis=-1)))
        return mean + ops.exp(log_variance / 2) * noise

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of `__init__`, which Keras uses to save and load the layer."""
        return {**super().get_config(), "beta": self.beta}


class MnistVae(Gallery):
    """Encode a digit in a few numbers and reconstruct it; `beta` weighs the divergence."""

    def __init__(self, beta: float = 1.0, **parts: Any) -> None:
        super().__init__(**parts)
        self.beta = beta

    def build_model(self) -> keras.Model:
        """Return the network from images and noise to the logits of the pixels."""
        net, floats = self.network, keras.config.floatx()
        images, noise = Input((28, 28, 1)), Input((net.latent,))
        x = images
        for filters in net.filters:
            x = layers.Conv2D(filters, net.kernel_size, 2, "same", activation=net.activation)(x)
        x = layers.Flatten()(x)
        mean, log_variance = (layers.Dense(net.latent, dtype=floats)(x) for _ in range(2))
        code = Latent(self.beta, dtype=floats)(mean, log_variance, noise)
        decoder = digit_decoder(net.latent, net.filters[::-1], net.kernel_size)
        return keras.Model([images, noise], decoder(code), name="vae")

    def train_step(self, batch: Any) -> tf.Tensor:
        """Return the loss of the pixels; the engine adds the layer's own loss."""
        return self.reconstruction(batch[0], training=True)

    def eval_step(self, batch: Any) -> None:
        """Log the total loss, a bound on the images' negative log-likelihood, and its parts."""
        self.log("loss", self.reconstruction(batch[0], training=False) + self.model.losses[0])

    def predict_step(self, batch: Any) -> tf.Tensor:
        """Return the images as rebuilt from their likeliest codes."""
        still = tf.tile(tf.zeros_like(batch[0][:, 0, 0]), [1, self.network.latent])
        return tf.sigmoid(self.model([batch[0], still], training=False))

    def reconstruction(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """Return the pixels' cross-entropy, summed over each image; log both parts of the loss."""
        logits = self.model([images, self.noise(images, self.network.latent)], training=training)
        pixels = keras.losses.binary_crossentropy(images, logits, from_logits=True)
        loss = tf.reduce_mean(tf.reduce_sum(pixels, axis=[1, 2]))
        self.log("reconstruction", loss)
        self.log("divergence", self.model.losses[0])
        return loss

    def pictures(self) -> dict[str, Any]:
        """Return test images above their reconstructions, and samples from fixed codes."""
        drawn = self.model.get_layer("decoder")(self.fixed_noise(self.network.latent))
        rebuilt = alternating(self.shown, self.predict_step([self.shown]))
        return {"reconstructions": sheet(rebuilt), "samples": sheet(tf.sigmoid(drawn))}
