"""What is trained: the same network, data and step for every contender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework import Data
from tasks.cifar100_subclass import Cifar100Subclass, Network
from tasks.classifier import Classifier
from tasks.mnist_subclass import MnistSubclass
from tasks.mnist_subclass import Network as MnistNetwork

BATCH = 32
NETWORK_A = {
    "conv_filters": [32, 64],
    "kernel_size": 3,
    "dense_units": 128,
    "activation": "relu",
}
NETWORK_B = SimpleNamespace(
    conv_filters=[16, 32],
    kernel_size=3,
    pool_size=2,
    dense_units=256,
    activation="relu",
    classes=100,
)

Run = Callable[[int], float]
"""Trains that many steps, and returns the seconds they took."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A network and its training data.

    Attributes:
        name: What it is called on the command line.
        about: One line for the table.
        x: Inputs as they are stored.
        y: Integer labels.
        build: Makes the network, with weights.
        task: Makes the framework's task of the same network.
        scale: Pixels are to be divided by 255 before the network sees them.
        steps_per_call: Steps that the hand-written loop runs for one call, after which it reads its
            metrics.
        bars: The least ratio to each other contender that `--check` accepts.
        step: Makes the hand-written step and the metrics that it updates. Default: one that
            classifies.
        contenders: Those that can train it. Default: all that train from arrays.
        batch: Rows of a batch.
        log_every: How often the framework logs a row.
        stream: Makes the training set as a `tf.data` pipeline, instead of `x` and `y`.
    """

    name: str
    about: str
    x: np.ndarray
    y: np.ndarray
    build: Callable[[], keras.Model]
    task: Callable[..., Any]
    scale: bool
    steps_per_call: int
    bars: dict[str, float]
    step: Callable[[], tuple[Callable[[Any, Any], None], list[keras.Metric]]] | None = None
    contenders: tuple[str, ...] | None = None
    batch: int = BATCH
    log_every: str = "50st"
    stream: Callable[[], tf.data.Dataset] | None = None

    @property
    def data(self) -> Data:
        """The training data as the framework takes it."""
        if self.stream is not None:
            return Data(train=self.stream())
        scale = divided if self.scale else None
        return Data(train=(self.x, self.y), batch_size=self.batch, map=scale)

    def floats(self) -> np.ndarray:
        """The inputs as the network takes them, for contenders that prepare them beforehand."""
        return self.x.astype(np.float32) / np.float32(255) if self.scale else self.x


def devices(data_dir: str | None = None) -> Workload:
    """The lesson's network on one logical device and on two, which share the same cores."""
    return replace(
        cifar100(data_dir), name="devices", contenders=("framework", "two_devices"), bars={}
    )


def divided(batch: Any) -> Any:
    """Scale a batch of images to [0, 1], in the graph."""
    images, labels = batch
    return tf.cast(images, tf.float32) / 255.0, labels


def one_layer(rows: int = 65536) -> Workload:
    """Softmax regression, 16 features to 10 classes: nearly all of a step is overhead."""
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 16), dtype=np.float32)
    y = (x @ random.standard_normal((16, 10), dtype=np.float32)).argmax(-1)

    def build() -> keras.Model:
        return keras.Sequential([keras.Input((16,)), keras.layers.Dense(10, activation="softmax")])

    class OneLayer(Classifier):
        def build_model(self) -> keras.Model:
            return build()

    return Workload(
        name="one_layer",
        about=f"dense 16 -> 10, softmax; {rows:,} rows of float32",
        x=x,
        y=y,
        build=build,
        task=OneLayer,
        scale=False,
        steps_per_call=500,
        bars={"fit": 40.0, "lightning": 40.0, "by_hand": 0.9},
        # As often as the hand-written loops read theirs: every 50 steps are a millisecond here.
        log_every="500st",
    )


def mnist(data_dir: str | None = None, rows: int = 60_000) -> Workload:
    """A perceptron with one hidden layer of 128 units on MNIST."""
    x, y, about = _images(data_dir, "mnist", (28, 28), rows, 10)

    def build() -> keras.Model:
        hidden = keras.layers.Dense(128, activation="relu")
        last = keras.layers.Dense(10, activation="softmax")
        return keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), hidden, last])

    class Perceptron(Classifier):
        def build_model(self) -> keras.Model:
            return build()

    return Workload(
        name="mnist",
        about=f"perceptron 784 -> 128 -> 10; {len(x):,} {about} images of uint8",
        x=x,
        y=y,
        build=build,
        task=Perceptron,
        scale=True,
        steps_per_call=500,
        bars={"fit": 12.0},
        log_every="500st",
    )


def mnist_lesson(data_dir: str | None = None, rows: int = 60_000) -> Workload:
    """The lesson's convolutional network on MNIST, in batches of 128."""
    x, y, about = _images(data_dir, "mnist", (28, 28, 1), rows, 10)
    network = SimpleNamespace(**{**NETWORK_A, "classes": 10})

    def build() -> keras.Model:
        model = MnistNetwork(**vars(network))
        model(tf.zeros((BATCH, 28, 28, 1)))
        return model

    return Workload(
        name="mnist_lesson",
        about=f"the lesson's MNIST network; {len(x):,} {about} images of uint8",
        x=x,
        y=y,
        build=build,
        task=lambda **parts: MnistSubclass(model=network, **parts),
        scale=True,
        steps_per_call=10,
        bars={"fit": 1.0},
        contenders=("framework", "fit", "gather_loop"),
        batch=128,
    )


def cifar100_stream(data_dir: str | None = None, rows: int = 50_000) -> Workload:
    """The CIFAR-100 network from a `tf.data` pipeline with augmentation."""
    arrays = cifar100(data_dir, rows)

    def varied(number: tf.Tensor, batch: Any) -> Any:
        images, labels = divided(batch)
        seed = tf.stack([tf.zeros((), tf.int64), number])
        images = tf.image.stateless_random_flip_left_right(images, seed)
        return tf.image.stateless_random_brightness(images, 0.1, seed), labels

    def stream() -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((arrays.x, arrays.y))
        batches = rows.shuffle(4096, seed=0).batch(BATCH, drop_remainder=True).enumerate()
        return batches.map(
            lambda number, batch: varied(number, batch), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(tf.data.AUTOTUNE)

    return replace(
        arrays,
        name="cifar100_stream",
        about=f"{arrays.about}, shuffled, flipped and relit by tf.data",
        contenders=("framework", "fit"),
        bars={"fit": 1.1},
        stream=stream,
    )


def cifar100(data_dir: str | None = None, rows: int = 50_000) -> Workload:
    """The lesson's convolutional network on images held as uint8."""
    x, y, about = _images(data_dir, "cifar100", (32, 32, 3), rows, 100)

    def build() -> keras.Model:
        model = Network(**vars(NETWORK_B))
        model(tf.zeros((BATCH, 32, 32, 3)))
        return model

    return Workload(
        name="cifar100",
        about=f"the lesson's CIFAR-100 network; {len(x):,} {about} images of uint8",
        x=x,
        y=y,
        build=build,
        task=lambda **parts: Cifar100Subclass(model=NETWORK_B, **parts),
        scale=True,
        steps_per_call=100,
        bars={
            "fit": 1.25,
            "best_fit_50": 1.1,
            "by_hand": 0.97,
            "lightning": 1.2,
            "framework_quiet": 0.97,
        },
    )


def _images(
    data_dir: str | None, name: str, shape: tuple[int, ...], rows: int, classes: int
) -> tuple[np.ndarray, np.ndarray, str]:
    path = Path(data_dir or ".") / f"{name}.npz"
    if data_dir is not None and path.is_file():
        with np.load(path) as file:
            return (
                file["x_train"][:rows].reshape(-1, *shape),
                file["y_train"][:rows].reshape(-1),
                "real",
            )
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return x, random.integers(0, classes, rows), "random"
