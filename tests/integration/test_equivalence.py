"""The same weights as a bare tape loop and as `Model.fit`, for every way to build a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Initial, make_trainer

from framework import Data
from tasks.cifar100_functional import Cifar100Functional
from tasks.cifar100_gradient_tape import Cifar100GradientTape
from tasks.cifar100_sequential import Cifar100Sequential
from tasks.cifar100_subclass import Cifar100Subclass
from tasks.mnist_functional import MnistFunctional
from tasks.mnist_sequential import MnistSequential
from tasks.mnist_subclass import MnistSubclass

NETWORK = SimpleNamespace(
    conv_filters=[4, 8], kernel_size=3, pool_size=2, dense_units=16, activation="relu", classes=10
)
BATCH, STEPS = 8, 50
ROWS = BATCH * (STEPS // 2) - 3  # two epochs, each with a ragged last batch
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
}


def images(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(3)
    labels = random.randint(0, 10, ROWS).astype("int64")
    pixels = random.randint(0, 128, (ROWS, *shape)) + labels[:, None, None, None] * 12
    return pixels.astype("uint8"), labels


def scaled(batch: Any) -> Any:
    return tf.cast(batch[0], tf.float32) / 255, batch[1]


def in_order(x: np.ndarray, y: np.ndarray, epoch: int) -> Iterator[tuple[Any, Any]]:
    for start in range(0, ROWS, BATCH):
        yield x[start : start + BATCH].astype("float32") / 255, y[start : start + BATCH]


def shuffled(x: np.ndarray, y: np.ndarray, epoch: int) -> Iterator[tuple[Any, Any]]:
    order = np.random.Generator(np.random.Philox(key=[0, epoch])).permutation(ROWS)
    assert sorted(order) == list(range(ROWS))
    return in_order(x[order], y[order], epoch)


def train(task_class: type, optimizer: str, x: Any, y: Any, shuffle: bool) -> tuple[Any, Any]:
    """The framework's initial and final weights."""
    initial = Initial()
    task = task_class(
        model=NETWORK,
        optimizer=OPTIMIZERS[optimizer],
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )
    trainer = make_trainer(max_epochs=2, callbacks=[initial])
    trainer.fit(task, Data(train=(x, y), batch_size=BATCH, map=scaled, shuffle=shuffle))
    assert trainer.progress.step == STEPS
    return initial.weights, task.model.get_weights()


def reference(task_class: type, x: np.ndarray, weights: list[np.ndarray]) -> keras.Model:
    """The task's network, made without a trainer, with given weights."""
    model = task_class(model=NETWORK).build_model()
    model(x[:1].astype("float32"))
    model.set_weights(weights)
    return model


def tape_loop(
    model: keras.Model, optimizer: Any, x: Any, y: Any, batches: Callable[..., Any]
) -> Any:
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    @tf.function(reduce_retracing=True)
    def step(features: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(features, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    optimizer.build(model.trainable_variables)
    for epoch in range(2):
        for features, labels in batches(x, y, epoch):
            step(tf.constant(features), tf.constant(labels))
    return model.get_weights()


def furthest(left: list[np.ndarray], right: list[np.ndarray]) -> float:
    assert [w.shape for w in left] == [w.shape for w in right]
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
WAYS = [
    (MnistSequential, MNIST),
    (MnistFunctional, MNIST),
    (MnistSubclass, MNIST),
    (Cifar100Sequential, CIFAR),
    (Cifar100Functional, CIFAR),
    (Cifar100Subclass, CIFAR),
    (Cifar100GradientTape, CIFAR),
]


REFERENCES: dict[tuple[Any, ...], tuple[Any, Any]] = {}


def references(task_class: type, x: Any, y: Any, optimizer: str, initial: Any) -> tuple[Any, Any]:
    """The final weights of the bare loop and of `Model.fit`.

    Ways that build one network from one seed begin with the same bits: one pair is for all.
    """
    key = (x.shape, optimizer, *(w.tobytes() for w in initial))
    if key not in REFERENCES:
        model = reference(task_class, x, initial)
        bare = tape_loop(model, OPTIMIZERS[optimizer](), x, y, in_order)
        model = reference(task_class, x, initial)
        model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(x.astype("float32") / 255, y, BATCH, epochs=2, shuffle=False, verbose=0)
        REFERENCES[key] = bare, model.get_weights()
    return REFERENCES[key]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("task_class", "shape"), WAYS)
def test_fifty_steps_equal_a_bare_tape_loop_and_model_fit(
    task_class: type, shape: tuple[int, ...], optimizer: str
) -> None:
    x, y = images(shape)
    initial, final = train(task_class, optimizer, x, y, shuffle=False)
    assert furthest(initial, final) > 1e-3  # it did learn something
    bare, by_keras = references(task_class, x, y, optimizer, initial)
    assert furthest(final, bare) <= 1e-5
    assert furthest(final, by_keras) <= 1e-5


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_shuffled_run_takes_the_published_permutation(optimizer: str) -> None:
    x, y = images((32, 32, 3))
    initial, final = train(Cifar100Sequential, optimizer, x, y, shuffle=True)
    model = reference(Cifar100Sequential, x, initial)
    bare = tape_loop(model, OPTIMIZERS[optimizer](), x, y, shuffled)
    assert furthest(final, bare) <= 1e-5
    in_rows_order, _ = references(Cifar100Sequential, x, y, optimizer, initial)
    assert furthest(final, in_rows_order) > 1e-5  # the order does show
