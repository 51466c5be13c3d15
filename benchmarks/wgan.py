"""WGAN with gradient penalty by hand: what manual mode costs beside the loop without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.workloads import BATCH, Workload
from framework import Task

NOISE, CRITIC_UPDATES, PENALTY = 16, 3, 10.0


def wgan_gp(rows: int = 16_384) -> Workload:
    """A WGAN-GP of dense layers on 8x8 images: three critic updates and one of the generator."""
    x = np.random.default_rng(0).random((rows, 64), dtype=np.float32)
    return Workload(
        name="wgan_gp",
        about=f"WGAN-GP, {CRITIC_UPDATES} critic updates a step; {rows:,} rows of 64 float32",
        x=x,
        y=np.zeros(rows, np.int64),
        build=_generator,
        task=WganGP,
        scale=False,
        steps_per_call=200,
        bars={"gather_loop": 0.95},
        step=_by_hand,
        contenders=("framework", "framework_quiet", "gather_loop"),
    )


def _critic() -> keras.Model:
    hidden = keras.layers.Dense(64, activation="leaky_relu")
    return keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(1)])


def _generator() -> keras.Model:
    hidden = keras.layers.Dense(64, activation="relu")
    last = keras.layers.Dense(64, activation="sigmoid")
    return keras.Sequential([keras.Input((NOISE,)), hidden, last])


class WganGP(Task):
    """The framework's: `minimize` by name, `gradient` for the penalty."""

    automatic_optimization = False

    def build_model(self) -> Any:
        return {"critic": _critic(), "generator": _generator()}

    def configure_optimizers(self) -> Any:
        return {name: keras.optimizers.Adam(1e-4) for name in ("critic", "generator")}

    def train_step(self, batch: Any) -> None:
        real, _ = batch
        critic, generator = self.model["critic"], self.model["generator"]
        for _ in range(CRITIC_UPDATES):
            loss = self.minimize(
                lambda: critic_loss(critic, generator, real, self.gradient), "critic"
            )
        self.log("critic_loss", loss)
        self.log(
            "generator_loss", self.minimize(lambda: generator_loss(critic, generator), "generator")
        )

    def eval_step(self, batch: Any) -> None: ...


def critic_loss(critic: Any, generator: Any, real: Any, gradient: Callable[..., Any]) -> Any:
    fake = generator(tf.random.normal((BATCH, NOISE)), training=True)
    part = tf.random.uniform((BATCH, 1))
    mixed = part * real + (1 - part) * fake
    with tf.GradientTape() as inner:
        inner.watch(mixed)
        scores = critic(mixed, training=True)
    slopes = tf.norm(gradient(inner, scores, mixed), axis=1)
    distance = tf.reduce_mean(critic(fake, training=True) - critic(real, training=True))
    return distance + PENALTY * tf.reduce_mean((slopes - 1.0) ** 2)


def generator_loss(critic: Any, generator: Any) -> Any:
    fake = generator(tf.random.normal((BATCH, NOISE)), training=True)
    return -tf.reduce_mean(critic(fake, training=True))


def _by_hand() -> tuple[Callable[[Any, Any], None], list[keras.Metric]]:
    critic, generator = _critic(), _generator()
    optimizers = {id(net): keras.optimizers.Adam(1e-4) for net in (critic, generator)}
    for net in (critic, generator):
        optimizers[id(net)].build(net.trainable_variables)
    means = [keras.metrics.Mean(), keras.metrics.Mean()]

    def update(net: keras.Model, loss_of: Callable[[], Any]) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of()
        gradients = tape.gradient(loss, net.trainable_variables)
        optimizers[id(net)].apply(gradients, net.trainable_variables)
        return loss

    def inner_gradient(tape: tf.GradientTape, target: Any, source: Any) -> Any:
        return tape.gradient(target, source)

    def step(real: Any, _: Any) -> None:
        for _ in range(CRITIC_UPDATES):
            loss = update(critic, lambda: critic_loss(critic, generator, real, inner_gradient))
        means[0].update_state(loss)
        means[1].update_state(update(generator, lambda: generator_loss(critic, generator)))

    return step, means
