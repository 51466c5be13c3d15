"""A Wasserstein GAN with gradient penalty (Gulrajani et al., 2017) that generates digits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import Input, Sequential, layers

from framework import random
from tasks.gallery import Gallery, digit_decoder, sheet


class MnistWganGp(Gallery):
    """Update a critic `critic_updates` times per update of a generator, with manual optimization.

    `penalty` weighs the gradient penalty, and `ema` is the fraction of itself that the generator's
    moving average keeps in an update. The other arguments are those of `Gallery`.
    """

    automatic_optimization = False

    def __init__(
        self, critic_updates: int = 3, penalty: float = 10.0, ema: float = 0.99, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.critic_updates, self.penalty, self.ema = critic_updates, penalty, ema

    def build_model(self) -> dict[str, keras.Model]:
        """Return the critic, the generator, and its average, which gives better images."""
        net, size, floats = self.network, self.network.kernel_size, keras.config.floatx()
        critic = [Input((28, 28, 1))]
        for filters in net.critic_filters:
            critic += [layers.Conv2D(filters, size, 2, "same"), layers.LeakyReLU(0.2)]
        critic += [layers.Flatten(), layers.Dense(1, dtype=floats)]
        decoder = digit_decoder(net.latent, net.generator_filters, size)
        generator = Sequential([decoder, layers.Activation("sigmoid", dtype=floats)])
        average = self.ema_of(generator, self.ema)
        return {"critic": Sequential(critic), "generator": generator, "average": average}

    def configure_optimizers(self) -> dict[str, keras.Optimizer]:
        """Return an optimizer of the configured kind for each of the two."""
        make = super().configure_optimizers
        return {"critic": make(), "generator": make()}

    def train_step(self, batch: Any) -> None:
        """Train the critic several times on new fakes, then train the generator against it."""
        images, latent = batch[0], self.network.latent
        critic, generator = self.model["critic"], self.model["generator"]
        for draw in range(1, self.critic_updates + 1):
            fakes = generator(self.noise(images, latent, draw), training=True)
            self.minimize(lambda x=fakes, d=draw: self.critic_loss(images, x, d), "critic")
        noise = self.noise(images, latent)
        self.minimize(lambda: -tf.reduce_mean(critic(generator(noise, training=True))), "generator")

    def critic_loss(self, images: tf.Tensor, fakes: tf.Tensor, draw: int) -> tf.Tensor:
        """Return minus the critic's distance between images and fakes, plus the penalty."""
        critic, shape = self.model["critic"], [tf.shape(images)[0], 1, 1, 1]
        mix = random.uniform(shape, self.step_seed(-draw))
        between = mix * images + (1 - mix) * fakes
        with tf.GradientTape() as inner:
            inner.watch(between)
            scores = critic(between)
        norms = tf.reduce_sum(self.gradient(inner, scores, between) ** 2, [1, 2, 3])
        distance = tf.reduce_mean(critic(images) - critic(fakes))
        loss = self.penalty * tf.reduce_mean((tf.sqrt(norms + 1e-12) - 1) ** 2) - distance
        self.log("loss", loss)
        self.log("wasserstein", distance)
        return loss

    def eval_step(self, batch: Any) -> None:
        """Log the critic's distance between images and the average generator's fakes."""
        critic, noise = self.model["critic"], self.noise(batch[0], self.network.latent)
        self.log("wasserstein", critic(batch[0]) - critic(self.model["average"](noise)))

    def pictures(self) -> dict[str, Any]:
        """Return images of the average generator from fixed noise."""
        return {"samples": sheet(self.model["average"](self.fixed_noise(self.network.latent)))}
