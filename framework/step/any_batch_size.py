"""Lets models that were built from a batch of a fixed size accept any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import keras

from framework.compat import layers_within, open_built_shapes, rebuild_sequential


def built_layers(models: Iterable[keras.Layer]) -> set[int]:
    """Return the ids of the models' built layers."""
    return {id(layer) for layer in _layers(models) if layer.built}


def leave_rows_open(models: Iterable[keras.Layer], before: Set[int]) -> None:
    """Make built models accept any number of rows, also when Keras saves or exports them.

    Layers that were built `before`, as `built_layers` said, keep their shapes.

    Example:
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.build((8, 3))
        >>> leave_rows_open([model], before=set())
        >>> model.input_shape
        (None, 3)
    """
    for layer in reversed(_layers(models)):  # inner layers first
        if id(layer) in before or not open_built_shapes(layer, _open):
            continue
        if isinstance(layer, keras.Sequential):
            rebuild_sequential(layer, _open)


def _layers(models: Iterable[keras.Layer]) -> list[keras.Layer]:
    return [layer for model in models for layer in layers_within(model)]


def _open(shape: Any) -> Any:
    """Return a shape, or a nest of them, with the first dimension unknown."""
    if isinstance(shape, Mapping):
        return {key: _open(value) for key, value in shape.items()}
    if not isinstance(shape, (list, tuple)) or not shape:
        return shape
    if all(size is None or isinstance(size, int) for size in shape):
        return type(shape)((None, *shape[1:]))
    return type(shape)(_open(each) for each in shape)
