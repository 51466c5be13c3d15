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

BATCH = 32
NETWORK_B = SimpleNamespace(
    conv_filters=[16, 32],
    kernel_size=3,
    pool_size=2,
    dense_units=256,
    activation="relu",
    classes=100,
)


@dataclass(frozen=True)
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
        steps_per_call: Steps that the hand-written loop runs for one call.
        bars: The least ratio to each other contender that `--check` accepts.
        step: Makes the hand-written step and the metrics that it updates. Default: one that
            classifies.
        contenders: Those that can train it. Default: all but `two_devices`.
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

    @property
    def data(self) -> Data:
        """The training data as the framework takes it."""
        return Data(train=(self.x, self.y), batch_size=BATCH, map=divided if self.scale else None)

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
        bars={"fit": 3.0, "range_loop": 0.95},
    )


def cifar100(data_dir: str | None = None, rows: int = 50_000) -> Workload:
    """The lesson's convolutional network on images held as uint8."""
    path = Path(data_dir or ".") / "cifar100.npz"
    if data_dir is not None and path.is_file():
        with np.load(path) as file:
            x, y = file["x_train"][:rows], file["y_train"][:rows].reshape(-1)
        about = "real"
    else:
        random = np.random.default_rng(0)
        x = random.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        y = random.integers(0, 100, rows)
        about = "random"

    def build() -> keras.Model:
        model = Network(NETWORK_B)
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
        bars={"fit": 1.1, "range_loop": 0.95},
    )
