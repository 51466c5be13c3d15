"""The calls of Keras's own layers inside a traced function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from framework.compat import layers_within


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, with its tensors in a graph."""

    layer: keras.Layer
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    outputs: Any


@contextmanager
def layer_calls(*, whole: bool) -> Iterator[dict[int, LayerCall]]:
    """Record the outermost layer calls in the body, by the id of each tensor that they return.

    A layer of the user's own class is not recorded, but the layers that it calls: a file with
    these needs nothing of the user's. With `whole`, it is recorded like any other.
    """
    found: dict[int, LayerCall] = {}
    own, inside = keras.Layer.__call__, False

    def call(layer: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal inside
        opened = not whole and not is_of_keras(layer)
        if inside or opened:
            return own(layer, *arguments, **named)
        inside = True
        try:
            outputs = own(layer, *arguments, **named)
        finally:
            inside = False
        given = {id(leaf) for leaf in tf.nest.flatten((arguments, named))}
        for leaf in tf.nest.flatten(outputs):
            if id(leaf) not in given:  # else it does nothing here, like dropout
                found[id(leaf)] = LayerCall(layer, arguments, named, outputs)
        return outputs

    keras.Layer.__call__ = call
    try:
        yield found
    finally:
        keras.Layer.__call__ = own


def is_of_keras(layer: Any) -> bool:
    """Whether a layer and all within it are Keras's own."""
    return all(type(each).__module__.split(".")[0] == "keras" for each in layers_within(layer))
