"""Networks, losses and comparisons that tasks of every kind share with their bare loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Weights = dict[str, list[np.ndarray]]

ROWS, BATCH, STEPS = 77, 8, 20  # two epochs, each with a ragged last batch of five
WHOLE = 80  # rows of the steps that take long to compile: none ragged
WIDTH, LATENT = 4, 3
INNER_RATE, INNER_MOMENTUM = 0.1, 0.9
DECAY = 0.9


def normal(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def net(*sizes: int, seed: int, norm: bool = False, **options: Any) -> keras.Sequential:
    """A dense net whose first weights depend on the seed alone."""
    layers: list[Any] = [keras.Input((sizes[0],))]
    for place, units in enumerate(sizes[1:], seed):
        layers.append(
            keras.layers.Dense(
                units,
                activation="tanh" if place < seed + len(sizes) - 2 else None,
                kernel_initializer=keras.initializers.GlorotUniform(place),
                bias_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=place),
                **options,
            )
        )
        if norm and len(layers) == 2:
            layers.append(keras.layers.BatchNormalization(momentum=0.9))
    return keras.Sequential(layers)


def real(tensor: Any) -> tf.Tensor:
    """In Keras's float: at least float32 whatever a network computes in."""
    return tf.cast(tensor, keras.config.floatx())


def noise(step: Any, stream: int, like: tf.Tensor, width: int) -> tf.Tensor:
    """Draws that depend on the step alone, one row for each of `like`."""
    seed = tf.stack([tf.constant(stream, tf.int64), step])
    return real(tf.random.stateless_normal((tf.shape(like)[0], width), seed))


def mean_square(left: Any, right: Any) -> tf.Tensor:
    return tf.reduce_mean((real(left) - real(right)) ** 2)


# ---- what bare loops are run and compared with


@dataclass
class Bare:
    """The weights before and after a bare loop, and what its steps returned."""

    start: Weights
    final: Weights
    values: list[Any]


def bare(loop: Callable[..., Bare]) -> Callable[..., Bare]:
    """Run a bare loop once for all tests, at Keras's float given as `floatx`."""

    @cache
    @wraps(loop)
    def run(*args: Any, floatx: str = "float32") -> Bare:
        former = keras.config.floatx(), keras.config.dtype_policy()
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        try:
            return loop(*args)
        finally:
            keras.config.set_floatx(former[0])
            keras.config.set_dtype_policy(former[1])

    return run


def weights(models: Any, **variables: Any) -> Weights:
    """The values of models, and of single variables beside them."""
    models = models if isinstance(models, Mapping) else {"model": models}
    found = {name: model.get_weights() for name, model in models.items()}
    return found | {name: [v.numpy()] for name, v in variables.items()}


def batches(data: Any, sizes: Sequence[int]) -> Iterator[Any]:
    """In order, one size of batch for each epoch, the last one for all that follow."""
    rows = len(tf.nest.flatten(data)[0])
    for size in itertools.chain(sizes, itertools.repeat(sizes[-1])):
        for start in range(0, rows, size):
            place = slice(start, start + size)
            yield tf.nest.map_structure(lambda a, place=place: tf.constant(a[place]), data)


def run(step: Any, data: Any, sizes: Sequence[int] = (BATCH,), steps: int = STEPS) -> list[Any]:
    """Call `step(batch, number)` for each batch, compiled, and return what it returned."""
    spec = tf.nest.map_structure(lambda a: tf.TensorSpec([None, *a.shape[1:]], a.dtype), data)
    signature = [spec, tf.TensorSpec([], tf.int64)]
    compiled = tf.function(step, input_signature=signature, autograph=False)
    numbered = enumerate(itertools.islice(batches(data, sizes), steps))
    found = [compiled(batch, tf.constant(number, tf.int64)) for number, batch in numbered]
    return [tf.nest.map_structure(lambda t: t if t is None else float(t), each) for each in found]


def build(optimizers: dict[str, keras.Optimizer], models: dict[str, keras.Model]) -> None:
    for name, optimizer in optimizers.items():
        optimizer.build(models[name].trainable_variables)


def gaps(left: Weights, right: Weights) -> dict[str, float]:
    """By model, how far the furthest weight is off."""
    assert left.keys() == right.keys()
    found = {}
    for name in left:
        pairs = list(zip(left[name], right[name], strict=True))
        assert all(a.shape == b.shape for a, b in pairs)
        found[name] = max(float(np.abs(a.astype("f8") - b.astype("f8")).max()) for a, b in pairs)
    return found


def relative(left: Weights, right: Weights) -> dict[str, float]:
    """By model, the distance from `right` in units of its length."""
    norms = {
        name: [
            np.sqrt(sum((np.asarray(each, "f8") ** 2).sum() for each in values))
            for values in (
                right[name],
                [a - b for a, b in zip(left[name], right[name], strict=True)],
            )
        ]
        for name in right
    }
    return {name: gap / length for name, (length, gap) in norms.items()}
