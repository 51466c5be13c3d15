"""Tasks for every kind of step.

Every class that is a `Task` optimises through the framework, and nothing else here does; the bare
loops in `bare_loops.py` take gradients and apply them by hand.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from bare_parts import (
    BATCH,
    DECAY,
    INNER_MOMENTUM,
    INNER_RATE,
    LATENT,
    ROWS,
    WHOLE,
    WIDTH,
    mean_square,
    net,
    noise,
    normal,
    real,
)
from helpers import blobs, cross_entropy

from framework import Task


class Quiet(Task):
    """A task of which only the training matters."""

    def eval_step(self, batch: Any) -> None:
        pass


class ByHand(Quiet):
    automatic_optimization = False


# ---- WGAN with gradient penalty

WGAN_DATA = normal(WHOLE, WIDTH) * 0.5 + 1.0


def wgan_models() -> dict[str, keras.Model]:
    return {"critic": net(WIDTH, 8, 1, seed=1), "generator": net(LATENT, 8, WIDTH, seed=11)}


def wgan_optimizers() -> dict[str, keras.Optimizer]:
    decay = keras.optimizers.schedules.ExponentialDecay(0.01, 20, 0.7)
    stairs = keras.optimizers.schedules.PiecewiseConstantDecay([5, 10], [0.02, 0.01, 0.005])
    return {
        "critic": keras.optimizers.Adam(decay, beta_1=0.5),
        "generator": keras.optimizers.Adam(stairs, beta_1=0.5),
    }


def between(step: Any, stream: int, images: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
    part = tf.sigmoid(noise(step, 100 + stream, images, 1))
    return part * images + (1 - part) * fakes


def critic_loss(on_real: Any, on_fake: Any, slopes: Any) -> tf.Tensor:
    lengths = tf.sqrt(tf.reduce_sum(real(slopes) ** 2, 1) + 1e-6)
    distance = tf.reduce_mean(real(on_fake)) - tf.reduce_mean(real(on_real))
    return distance + 5.0 * tf.reduce_mean((lengths - 1.0) ** 2)


class Wgan(ByHand):
    def build_model(self) -> Any:
        return wgan_models()

    def configure_optimizers(self) -> Any:
        return wgan_optimizers()

    def train_step(self, batch: Any) -> None:
        images = real(batch)
        for update in range(3):
            self.learn_critic(images, update)
        loss = self.minimize(
            lambda: -tf.reduce_mean(real(self.model["critic"](self.fakes(images, 9)))), "generator"
        )
        self.log("generator_loss", loss)

    def fakes(self, images: tf.Tensor, stream: int) -> tf.Tensor:
        latent = noise(self.global_step, stream, images, LATENT)
        return real(self.model["generator"](latent, training=True))

    def learn_critic(self, images: tf.Tensor, update: int) -> None:
        critic = self.model["critic"]

        def loss() -> tf.Tensor:
            fakes = self.fakes(images, update)
            mixed = between(self.global_step, update, images, fakes)
            with tf.GradientTape() as inner:
                inner.watch(mixed)
                scores = critic(mixed, training=True)
            slopes = self.gradient(inner, scores, mixed)
            return critic_loss(critic(images, training=True), critic(fakes, training=True), slopes)

        self.log("critic_loss", self.minimize(loss, "critic"))


# ---- a cycle of two generators, with four optimizers

CYCLE_DATA = normal(WHOLE, WIDTH), normal(WHOLE, WIDTH, seed=6) * 0.7 - 0.5


def cycle_models() -> dict[str, keras.Model]:
    makers = {name: net(WIDTH, 6, WIDTH, seed=seed) for name, seed in (("f", 1), ("g", 11))}
    return makers | {name: net(WIDTH, 6, 1, seed=seed) for name, seed in (("dx", 21), ("dy", 31))}


def cycle_optimizers() -> dict[str, keras.Optimizer]:
    return {
        "f": keras.optimizers.Adam(0.01),
        "g": keras.optimizers.Adam(0.005),
        "dx": keras.optimizers.SGD(0.1, momentum=0.5),
        "dy": keras.optimizers.RMSprop(0.005),
    }


def cycle_losses(models: Any, batch: Any) -> dict[str, tf.Tensor]:
    x, y = map(real, batch)
    f, g, dx, dy = (models[name] for name in ("f", "g", "dx", "dy"))
    to_y, to_x = real(f(x, training=True)), real(g(y, training=True))
    back = mean_square(g(to_y, training=True), x) + mean_square(f(to_x, training=True), y)
    return {
        "f": mean_square(dy(to_y), 1.0) + 2.0 * back,
        "g": mean_square(dx(to_x), 1.0) + 2.0 * back,
        "dx": mean_square(dx(x), 1.0) + mean_square(dx(to_x), 0.0),
        "dy": mean_square(dy(y), 1.0) + mean_square(dy(to_y), 0.0),
    }


class Cycle(ByHand):
    """Updates all by one tape, by one dict of losses, or one after the other."""

    def __init__(self, style: str = "tape") -> None:
        super().__init__()
        self.style = style

    def build_model(self) -> Any:
        return cycle_models()

    def configure_optimizers(self) -> Any:
        return cycle_optimizers()

    def train_step(self, batch: Any) -> None:
        if self.style == "tape":
            with tf.GradientTape(persistent=True) as tape:
                losses = cycle_losses(self.model, batch)
            self.apply_gradients(tape, losses)
        elif self.style == "dict":
            losses = self.minimize(lambda: cycle_losses(self.model, batch))
        else:
            losses = {name: self.learn(name, batch) for name in ("f", "g", "dx", "dy")}
        for name, loss in losses.items():
            self.log(f"loss_{name}", loss)

    def learn(self, name: str, batch: Any) -> tf.Tensor:
        return self.minimize(lambda: cycle_losses(self.model, batch)[name], name)


# ---- a VAE whose layer adds a loss

VAE_DATA = normal(ROWS, 6)


class Sample(keras.layers.Layer):
    def call(self, inputs: Any) -> tf.Tensor:
        mean, log_var, draws = inputs
        self.add_loss(divergence(mean, log_var))
        return mean + tf.exp(log_var / 2) * draws


def divergence(mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    return -0.5 * tf.reduce_mean(1 + log_var - mean**2 - tf.exp(log_var))


def vae_model() -> keras.Model:
    x, draws = keras.Input((6,)), keras.Input((LATENT,))
    mean, log_var = net(6, 8, LATENT, seed=1)(x), net(6, LATENT, seed=11)(x)
    return keras.Model([x, draws], net(LATENT, 6, seed=21)(Sample()([mean, log_var, draws])))


class Vae(Quiet):
    def build_model(self) -> Any:
        return vae_model()

    def train_step(self, batch: Any) -> tf.Tensor:
        draws = noise(self.global_step, 0, batch, LATENT)
        return mean_square(self.model([batch, draws], training=True), batch)


# ---- distillation

BLOBS = blobs(ROWS)


def distillation_models() -> dict[str, keras.Model]:
    teacher = net(6, 8, 3, seed=1, norm=True)
    teacher.trainable = False
    return {"teacher": teacher, "student": net(6, 4, 3, seed=11)}


def distillation_loss(taught: tf.Tensor, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    soft = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(taught / 2), logits / 2)
    return tf.reduce_mean(4 * soft + cross_entropy(labels, logits))


class Distillation(Quiet):
    def build_model(self) -> Any:
        return distillation_models()

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        taught = self.model["teacher"](x, training=True)
        return distillation_loss(taught, self.model["student"](x, training=True), y)


class DistillationByHand(Distillation):
    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        self.minimize(lambda: super(DistillationByHand, self).train_step(batch))


# ---- contrast with a queue and a momentum encoder

CONTRAST_DATA, QUEUE = normal(ROWS, WIDTH), normal(20, LATENT, seed=8)


def encoder() -> keras.Sequential:
    return net(WIDTH, 8, LATENT, seed=1, norm=True)


def contrastive_loss(query: tf.Tensor, keys: tf.Tensor, queue: tf.Tensor) -> tf.Tensor:
    query = tf.math.l2_normalize(real(query), -1)
    alike = tf.reduce_sum(query * keys, -1, keepdims=True)
    logits = tf.concat([alike, tf.matmul(query, queue, transpose_b=True)], -1) / 0.5
    return tf.reduce_mean(tf.reduce_logsumexp(logits, -1) - logits[:, 0])


class Contrast(ByHand):
    def build_model(self) -> Any:
        self.variable("queue", QUEUE.astype(keras.config.floatx()))
        online = encoder()
        return {"online": online, "momentum": self.ema_of(online, DECAY)}

    def configure_optimizers(self) -> Any:
        return {"online": keras.optimizers.Adam(0.01)}

    def train_step(self, batch: Any) -> None:
        queue, x = self.variable("queue"), real(batch)
        views = [x + 0.1 * noise(self.global_step, k, x, WIDTH) for k in range(2)]

        def loss() -> tf.Tensor:
            keys = tf.math.l2_normalize(real(self.model["momentum"](views[1], training=True)), -1)
            negatives = tf.convert_to_tensor(queue)
            queue.assign(tf.concat([keys, negatives[: -tf.shape(keys)[0]]], 0))
            return contrastive_loss(self.model["online"](views[0], training=True), keys, negatives)

        self.minimize(loss)


# ---- first-order meta-learning


def wave(rows: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    x = normal(2, rows, 1, seed=seed)
    return {"query": (x[0], np.sin(2 * x[0])), "support": (x[1], np.sin(2 * x[1]))}


META_DATA, META_VAL = wave(ROWS, 5), wave(BATCH + 5, 6)


def forward(weights: Any, x: tf.Tensor) -> tf.Tensor:
    kernel, bias, out, shift = weights
    return tf.tanh(x @ kernel + bias) @ out + shift


class Meta(ByHand):
    """The inner loop with an optimizer of its own, undone by a snapshot."""

    def build_model(self) -> Any:
        return net(1, 8, 1, seed=1)

    def configure_optimizers(self) -> Any:
        inner = keras.optimizers.SGD(INNER_RATE, momentum=INNER_MOMENTUM)
        outer = keras.optimizers.Adam(0.02)
        return {"inner": (inner, self.model), "outer": (outer, self.model)}

    def train_step(self, batch: Any) -> None:
        with self.snapshot():
            for _ in range(2):
                self.minimize(lambda: self.loss_of(batch["support"]), "inner")
            with tf.GradientTape() as tape:
                loss = self.loss_of(batch["query"])
        self.apply_gradients(tape, loss, "outer")

    def eval_step(self, batch: Any) -> None:
        self.log("before", self.loss_of(batch["query"]))
        with self.snapshot():
            for name in ("inner", "inner", "outer"):
                self.minimize(lambda: self.loss_of(batch["support"]), name)
            self.log("adapted", self.loss_of(batch["query"]))
        self.log("after", self.loss_of(batch["query"]))

    def loss_of(self, rows: Any) -> tf.Tensor:
        return mean_square(self.model(rows[0], training=True), rows[1])


class MetaByHand(Meta):
    """The inner loop as a function of tensors."""

    def train_step(self, batch: Any) -> None:
        (x, y), query = batch["support"], batch["query"]
        weights = self.model.trainable_variables
        speed = [tf.zeros(v.shape) for v in weights]
        moved = [tf.zeros(v.shape) for v in weights]
        for _ in range(2):
            fast = [w + m for w, m in zip(weights, moved, strict=True)]
            with tf.GradientTape() as tape:
                tape.watch(fast)
                loss = mean_square(forward(fast, x), y)
            slopes = self.gradient(tape, loss, fast)
            speed = [
                INNER_MOMENTUM * v - INNER_RATE * s for v, s in zip(speed, slopes, strict=True)
            ]
            moved = [m + v for m, v in zip(moved, speed, strict=True)]
        self.minimize(
            lambda: mean_square(
                forward([w + m for w, m in zip(weights, moved, strict=True)], query[0]), query[1]
            ),
            "outer",
        )


# ---- batches of other shapes

NESTED = {"left": {"x": normal(ROWS, 3), "weight": np.abs(normal(ROWS))}, "right": normal(ROWS, 2)}
CLIPS = normal(10, 2, 4, 5, 5, 3)


def nested_loss(model: Any, batch: Any) -> tf.Tensor:
    error = (model(batch["left"]["x"], training=True) - batch["right"]) ** 2
    return tf.reduce_mean(error * batch["left"]["weight"][:, None])


class Nested(ByHand):
    def build_model(self) -> Any:
        return net(3, 4, 2, seed=1)

    def train_step(self, batch: Any) -> None:
        assert batch["left"]["x"].shape[0] in (BATCH, ROWS % BATCH)
        self.minimize(lambda: nested_loss(self.model, batch))


def image_encoder() -> keras.Sequential:
    start = keras.initializers.GlorotUniform(3)
    convolution = keras.layers.Conv2D(4, 3, activation="tanh", kernel_initializer=start)
    pool = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential([keras.Input((5, 5, 3)), convolution, pool, net(4, 3, seed=1)])


def clip_loss(model: Any, clips: tf.Tensor) -> tf.Tensor:
    codes = tf.reshape(model(tf.reshape(clips, (-1, 5, 5, 3)), training=True), (2, -1, 3))
    alike = tf.matmul(codes[0], codes[1], transpose_b=True)
    return tf.reduce_mean(tf.reduce_logsumexp(alike, -1) - tf.linalg.diag_part(alike))


class Clips(ByHand):
    def build_model(self) -> Any:
        return image_encoder()

    def train_step(self, batch: Any) -> None:
        assert batch.shape == (2, 4, 5, 5, 3)
        with tf.GradientTape() as tape:
            loss = clip_loss(self.model, batch)
        self.apply_gradients(tape, loss)


# ---- classification, in several ways


def label_loss(model: Any, batch: Any, factor: Any = 1.0) -> tf.Tensor:
    x, y = batch
    return tf.reduce_mean(cross_entropy(y, model(x, training=True) * factor))


class Classify(Quiet):
    """Automatic, of a net with a regularizer; notes how many rows its steps are given."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.seen: set[int | None] = set()

    def build_model(self) -> Any:
        return net(6, 5, 3, seed=1, kernel_regularizer=keras.regularizers.L2(0.01))

    def train_step(self, batch: Any) -> Any:
        self.seen.add(batch[0].shape[0])
        return label_loss(self.model, batch)


class ClassifyByHand(Classify):
    """The same; a step that optimises by hand adds the regularizer itself."""

    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        self.minimize(lambda: label_loss(self.model, batch) + tf.add_n(self.model.losses))


class Twice(ByHand):
    """Two updates of one optimizer for each batch, the second by half of the loss."""

    def build_model(self) -> Any:
        return net(6, 5, 3, seed=1)

    def train_step(self, batch: Any) -> None:
        first = self.minimize(lambda: label_loss(self.model, batch))
        second = self.minimize(lambda: label_loss(self.model, batch) / 2)
        self.log("gain", first - 2 * second)


class Groups(Quiet):
    """A layer for each of two optimizers, and one that nobody owns."""

    def build_model(self) -> Any:
        return net(6, 5, 4, 3, seed=1)

    def configure_optimizers(self) -> Any:
        body, _, head = self.model.layers
        return {
            "body": (keras.optimizers.SGD(0.01, momentum=0.9), [body]),
            "head": (keras.optimizers.Adam(0.03), head),
        }

    def train_step(self, batch: Any) -> tf.Tensor:
        return label_loss(self.model, batch)


class Tempered(Quiet):
    """With a trainable variable of the task's own."""

    def build_model(self) -> Any:
        self.variable("temperature", 0.5, trainable=True)
        return net(6, 3, seed=1)

    def train_step(self, batch: Any) -> Any:
        return label_loss(self.model, batch, tf.exp(self.variable("temperature")))


class TemperedByHand(Tempered):
    automatic_optimization = False

    def train_step(self, batch: Any) -> None:
        self.minimize(lambda: super(TemperedByHand, self).train_step(batch))
