"""Applies Keras's preprocessing layers to batches, from a seed alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.compat import layers_within
from framework.errors import UserError
from framework.random import fold

_MIX_LABELS = keras.layers.MixUp, keras.layers.CutMix


def apply_layers(layers: Sequence[keras.Layer], batch: Any, seed: tf.Tensor) -> Any:
    """Apply preprocessing layers to the images of a batch, as in training.

    A layer draws from a generator of its own, whose state would depend on how often it was called.
    Here it draws from the seed, so that a batch is the same in every run, however it is resumed.

    Example:
        >>> layers = [keras.layers.RandomRotation(0.1), keras.layers.MixUp()]
        >>> images, labels = apply_layers(layers, (images, one_hot), tf.constant([0, 1], tf.int64))

    Args:
        layers: The layers, in order.
        batch: A nest with the images as its first leaf, of shape (B, H, W) or (B, H, W, C). In
            `(images, labels)` and `(images, labels, weights)`, layers that mix images mix one-hot
            labels as well.
        seed: Whole numbers of shape (2,).

    Returns:
        A nest of the same structure, shapes and dtypes.

    Raises:
        UserError: A layer changes the images' shape, has to mix labels that are not one-hot, or
            draws in Python, which is the same in every step.
    """
    leaves = tf.nest.flatten(batch)
    pair = isinstance(batch, tuple) and len(leaves) == len(batch) > 1
    before = tf.convert_to_tensor(leaves[0])
    images = tf.cast(before, tf.float32) if before.dtype.is_integer else before
    if images.shape.rank == 3:
        images = images[..., tf.newaxis]
    labels = tf.convert_to_tensor(leaves[1]) if pair else None
    if labels is not None and not (labels.shape.rank == 2 and labels.dtype.is_floating):
        labels = None
    for number, layer in enumerate(layers):
        mixes = _mixes_labels(layer)
        if mixes and labels is None:
            raise UserError(
                f"{type(layer).__name__} mixes labels, and the batch has no one-hot ones",
                where="data.augment",
                fix="Give (images, labels) with float labels of shape (B, classes): for the "
                "built-in sets and folders, data.one_hot=true loss=categorical_crossentropy.",
            )
        given = {"images": images, "labels": labels} if mixes else images
        if not layer.built:  # Keras may call a layer to build it, which would draw as well
            _called(layer, given, seed)
        found = _called(layer, given, fold(seed, number))
        images, labels = (found["images"], found["labels"]) if mixes else (found, labels)
    if before.shape.rank == 3:
        images = images[..., 0]
    if not before.shape.is_compatible_with(images.shape):
        raise UserError(
            f"the layers change the images from {before.shape} to {images.shape}",
            where="data.augment",
            fix="Change sizes for all sets, in Data.map or in the model.",
        )
    if before.dtype.is_integer:
        images = tf.round(images)
    images = tf.ensure_shape(tf.cast(images, before.dtype), before.shape)
    others = leaves[1:] if labels is None else [tf.cast(labels, leaves[1].dtype), *leaves[2:]]
    return tf.nest.pack_sequence_as(batch, [images, *others])


def _called(layer: keras.Layer, given: Any, seed: tf.Tensor) -> Any:
    state = _python_draws()
    with _drawing(seed):
        found = layer(dict(given) if isinstance(given, dict) else given, training=True)
    if _python_draws() != state:
        raise UserError(
            f"{type(layer).__name__} draws in Python, so every step would draw the same",
            where="data.augment",
            fix="Choose a layer that draws with keras.random, such as RandAugment.",
        )
    return found


def _mixes_labels(layer: keras.Layer) -> bool:
    """Return whether a layer, or one within it, changes labels along with images."""
    return any(
        isinstance(each, _MIX_LABELS)
        # Keras's other layers have a `transform_labels` that does nothing.
        or (hasattr(each, "transform_labels") and not type(each).__module__.startswith("keras."))
        for each in layers_within(layer)
    )


def _python_draws() -> tuple[Any, ...]:
    """Return the states of the generators that only Python's code can advance."""
    kind, keys, place, *_ = np.random.get_state()
    return random.getstate(), kind, np.asarray(keys).tobytes(), place


@contextmanager
def _drawing(seed: tf.Tensor) -> Iterator[None]:
    """Make the n-th draw of any generator a function of a seed and n in the body.

    Layers may hold generators, and layers with generators, where Keras does not know of them. So it
    is the class that changes, while a step is traced.
    """
    entered, numbers, looping = tf.compat.v1.get_default_graph(), itertools.count(), list[Any]()

    def next_seed(generator: keras.random.SeedGenerator, ordered: bool = True) -> tf.Tensor:
        if not tf.executing_eagerly() and _in_a_loop(tf.compat.v1.get_default_graph(), entered):
            looping.append(generator)  # Keras would wrap what is raised here
        return fold(seed, next(numbers))

    former = keras.random.SeedGenerator.next
    keras.random.SeedGenerator.next = next_seed
    try:
        yield
    finally:
        keras.random.SeedGenerator.next = former
    if looping:
        raise UserError(
            "a layer draws in a loop, such as tf.map_fn, so each image would get the same",
            where="data.augment",
            fix="Draw for all images at once, before the loop.",
        )


def _in_a_loop(graph: Any, entered: Any) -> bool:
    """Return whether a graph is in a loop that began after `entered`."""
    while graph is not entered and graph is not None:
        if type(graph).__name__ == "WhileBodyFuncGraph":
            return True
        graph = getattr(graph, "outer_graph", None)
    return False
