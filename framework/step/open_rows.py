"""Leaving the number of rows open in models that were built from a batch of a fixed number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import keras


def built_layers(models: Iterable[keras.Layer]) -> set[int]:
    """Return the ids of those layers of models that are built."""
    return {id(layer) for layer in _layers(models) if layer.built}


def leave_rows_open(models: Iterable[keras.Layer], before: Set[int]) -> None:
    """Have models take any number of rows, as Keras saves and exports them.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.build((8, 3))
        >>> leave_rows_open([model], before=set())
        >>> model.input_shape
        (None, 3)

    Args:
        models: They were built from a batch.
        before: What `built_layers` returned before that: whoever built these chose their shapes.
    """
    for layer in reversed(_layers(models)):  # what is inside first
        if id(layer) in before or not layer._build_shapes_dict:
            continue
        layer._build_shapes_dict = _open(dict(layer._build_shapes_dict))
        if isinstance(layer, keras.Sequential) and layer._functional is not None:
            _build_again(layer)


def _build_again(model: keras.Sequential) -> None:
    first, *others = model._layers
    shape = _open(first.batch_shape)
    if shape == first.batch_shape:
        return
    for layer in others:  # else each would have two outputs
        layer._inbound_nodes.clear()
        layer._outbound_nodes.clear()
    model._layers, model._functional, model.built = others, None, False
    model.build(shape)


def _layers(models: Iterable[keras.Layer]) -> list[keras.Layer]:
    return [layer for model in models for layer in model._flatten_layers()]


def _open(shape: Any) -> Any:
    """Return a shape, or a nest of them, with the first dimension unknown."""
    if isinstance(shape, Mapping):
        return {key: _open(value) for key, value in shape.items()}
    if not isinstance(shape, (list, tuple)) or not shape:
        return shape
    if all(size is None or isinstance(size, int) for size in shape):
        return type(shape)((None, *shape[1:]))
    return type(shape)(_open(each) for each in shape)
