"""Images in files, a Parquet table and a set of Hugging Face, each beside what it is held against.

All train with Adam, in batches as they come; what is timed are steps after some to warm up, from
inside the run, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.contenders import Stopwatch
from framework import Data, Task, Trainer
from framework.core.extras import is_installed
from framework.datasets.image_folder import image_folder
from framework.datasets.table_data import table_data

Turn = Callable[[], float]  # trains, and returns steps per second


@dataclass(frozen=True)
class Contest:
    """One kind of data and the others.

    Attributes:
        name: What it is.
        bar: The least ratio to the best of `others`.
        own: Trains on it.
        others: What it is held against, by name.
        more: What is shown beside them.
    """

    name: str
    bar: float
    own: Turn
    others: dict[str, Turn]
    more: dict[str, Turn]


class Small(Task):
    """A network that costs little, so that the data decide."""

    def __init__(self, build: Callable[[], keras.Model]) -> None:
        super().__init__(optimizer="adam")
        self.build = build

    def build_model(self) -> keras.Model:
        return self.build()

    def train_step(self, batch: Any) -> tf.Tensor:
        return loss_of(self.model, *batch)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", loss_of(self.model, *batch))


def loss_of(model: keras.Model, x: Any, y: Any) -> tf.Tensor:
    """Return the mean loss of a batch."""
    losses = keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
    return tf.reduce_mean(losses)


def trained(build: Callable[[], keras.Model], data: Data, steps: int, warm: int) -> Turn:
    """Return a turn of the framework."""

    def turn() -> float:
        watch = Stopwatch(warm)
        Trainer(
            max_steps=warm + steps,
            engine="graph",
            log_every="1000st",
            callbacks=[watch],
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Small(build), data)
        return steps / watch.seconds

    return turn


def images(folder: Path, count: int, steps: int) -> Contest:
    """JPEGs in folders, beside loops written by hand on the usual `tf.data` pipeline."""
    write_jpegs(folder, count)
    side, batch, warm = 96, 32, 40

    def build() -> keras.Model:
        parts = [keras.layers.Conv2D(8, 3, 2, activation="relu")]
        parts += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, "softmax")]
        return keras.Sequential([keras.Input((side, side, 3)), *parts])

    paths = sorted(str(path) for path in folder.rglob("*.jpg"))
    labels = [int(Path(path).parent.name) for path in paths]

    def load(path: tf.Tensor, label: tf.Tensor) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), 3)
        return tf.image.resize(image, (side, side)) / 255.0, label

    def batches() -> Any:
        files = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(count).repeat()
        loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE)
        return iter(loaded.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

    def by_hand(at_once: int) -> Turn:
        model, optimizer = build(), keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)

        @tf.function
        def many(iterator: Any, number: tf.Tensor) -> None:
            for _ in tf.range(number):
                with tf.GradientTape() as tape:
                    loss = loss_of(model, *next(iterator))
                gradients = tape.gradient(loss, model.trainable_variables)
                optimizer.apply(gradients, model.trainable_variables)

        def turn() -> float:
            iterator = batches()  # as cold as the framework's
            many(iterator, tf.constant(warm))
            began = time.perf_counter()
            for _ in range(steps // at_once):
                many(iterator, tf.constant(at_once))
            return steps // at_once * at_once / (time.perf_counter() - began)

        return turn

    data = image_folder(folder, size=(side, side), batch_size=batch)
    own = trained(build, data, steps, warm)
    others = {"by hand, step by step": by_hand(1), "by hand, 20 at a time": by_hand(20)}
    name = f"{count:,} JPEGs of 200 x 160, resized to {side} x {side}"
    return Contest(name, 0.95, own, others, {})


def write_jpegs(folder: Path, count: int) -> None:
    """Write JPEGs of smooth noise in ten folders."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (64, 20, 16, 3)).astype("float32")
    fine = tf.cast(tf.image.resize(coarse, (200, 160), "bicubic"), tf.float32)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        noise = random.normal(0, 8, (200, 160, 3)).astype("float32")
        image = tf.saturate_cast(fine[number % 64] + noise, tf.uint8)
        path = folder / str(number % 10) / f"{number:05}.jpg"
        path.write_bytes(tf.io.encode_jpeg(image).numpy())


def table(folder: Path, rows: int, steps: int) -> Contest:
    """A Parquet table, beside arrays of the same numbers."""
    import pyarrow
    from pyarrow import parquet

    random, batch = np.random.default_rng(0), 256
    columns: dict[str, Any] = {f"x{n}": random.normal(n, 1 + n, rows) for n in range(16)}
    for n in range(4):
        columns[f"c{n}"] = np.array([f"v{i}" for i in range(50)])[random.integers(0, 50, rows)]
    columns["y"] = random.integers(0, 2, rows)
    parquet.write_table(pyarrow.table(columns), folder / "table.parquet")

    def build() -> keras.Model:
        x = keras.Input((16,), name="numbers")
        c = keras.Input((4,), dtype="int32", name="categories")
        joined = keras.layers.Flatten()(keras.layers.Embedding(51, 4)(c))
        hidden = keras.layers.Dense(32, "relu")(keras.layers.Concatenate()([x, joined]))
        outputs = keras.layers.Dense(2, "softmax")(hidden)
        return keras.Model({"numbers": x, "categories": c}, outputs)

    began = time.perf_counter()
    data = table_data(folder / "table.parquet", target="y", batch_size=batch)
    seconds = time.perf_counter() - began
    numbers = np.stack([columns[f"x{n}"] for n in range(16)], 1).astype("float32")
    categories = random.integers(1, 51, (rows, 4)).astype("int32")
    inputs = {"numbers": (numbers - numbers.mean(0)) / numbers.std(0), "categories": categories}
    arrays = Data(train=(inputs, columns["y"]), batch_size=batch)
    own = trained(build, data, steps, 200)
    name = f"a Parquet table of {rows:,} rows and 20 columns, read in {seconds:.1f} s"
    return Contest(name, 0.8, own, {"arrays": trained(build, arrays, steps, 200)}, {})


def hugging_face(rows: int, steps: int) -> Contest | None:
    """A set of Hugging Face, beside the arrays that it holds; None if it is not installed."""
    if not is_installed("datasets"):
        return None
    import datasets

    random, batch = np.random.default_rng(0), 64
    x = random.normal(size=(rows, 32)).astype("float32")
    y = random.integers(0, 10, rows)
    held = datasets.Dataset.from_dict({"x": x, "y": y}).with_format("numpy")

    def build() -> keras.Model:
        hidden = keras.layers.Dense(32, "relu")
        return keras.Sequential([keras.Input((32,)), hidden, keras.layers.Dense(10, "softmax")])

    def pair(rows: dict[str, Any]) -> Any:
        return rows["x"], rows["y"]

    def turn(train: Any, part: int = 1, **options: Any) -> Turn:
        data = Data(train=train, batch_size=batch, map=pair, **options)
        return trained(build, data, steps // part, 200 // part)

    more = {
        "read by row numbers": turn(held, 10, resident=False),
        "the same, by 1 process": turn(held, 10, resident=False, workers=1),
    }
    name = f"a set of Hugging Face, {rows:,} rows of 32 numbers"
    return Contest(name, 0.8, turn(held), {"arrays": turn({"x": x, "y": y})}, more)
