"""What a model's layers put out, and what that costs, seen while they are called symbolically."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from framework.core.flops import count_flops


def output_shapes(model: Any) -> dict[int, str]:
    """Return the output shapes of a model's layers, one level deep, as text by layer id.

    If Keras does not store a shape, as for the pooling layers of a subclassed model, the model is
    called on symbolic inputs to find it. An unknown shape is `?`; an unknown dimension is None.
    """
    layers = [layer for one in layers_of(model) for layer in (one, *_inside(one))]
    found = {id(layer): _kept(layer) for layer in layers}
    if "?" in found.values():
        unknown = [layer for layer in layers if found[id(layer)] == "?"]
        with watched(unknown) as seen:
            _call(model)
        found |= {key: shape_text(each.shapes) for key, each in seen.items()}
    return found


def layers_of(model: Any) -> list[Any]:
    """Return the layers of a model, or the layer itself if it is not a model."""
    return list(model.layers) if isinstance(model, keras.Model) else [model]


def _inside(layer: Any) -> list[Any]:
    return list(layer.layers) if isinstance(layer, keras.Model) else []


def _kept(layer: Any) -> str:
    """Return the shape that Keras stores or can compute."""
    try:
        # Works if the layer was called on symbolic inputs, in a functional or Sequential model.
        shapes = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), layer.output)
    except (AttributeError, ValueError):
        config = layer.get_build_config() if layer.built else None
        if not config or config.get("input_shape") is None:
            return "?"
        try:
            shapes = layer.compute_output_shape(config["input_shape"])
        except Exception:  # User code may raise anything; the summary works without the shape.
            return "?"
    return shape_text(shapes)


def _call(model: Any) -> None:
    """Call a built model on symbolic inputs with the shapes that it was built with."""
    import keras

    config = (model.get_build_config() if model.built else None) or {}
    by_name = config.get("shapes_dict")  # of a model that takes several arguments
    for dtype in dict.fromkeys((model.compute_dtype, "int32")):  # Keras does not keep the type

        def symbolic(shapes: Any, dtype: str = dtype) -> Any:
            return _map_shapes(shapes, lambda shape: keras.KerasTensor(shape, dtype))

        try:
            if by_name:
                given = {k.removesuffix("_shape"): symbolic(v) for k, v in by_name.items()}
                model.compute_output_spec(**given)
            elif config.get("input_shape") is not None:
                model.compute_output_spec(symbolic(config["input_shape"]))
            return
        except Exception:  # user code, as above
            continue


def _map_shapes(shapes: Any, make: Callable[[tuple[Any, ...]], Any]) -> Any:
    """Apply a function to each shape in a nest, where a shape is itself a tuple or a list."""
    if isinstance(shapes, Mapping):
        return {name: _map_shapes(each, make) for name, each in shapes.items()}
    if all(size is None or type(size) is int for size in shapes):
        return make(tuple(shapes))
    return [_map_shapes(each, make) for each in shapes]


@dataclass
class Seen:
    """What was seen of a layer.

    Attributes:
        shapes: The shapes of its last output: a nest.
        bytes: The size of all its outputs, where shapes are known.
        flops: The floating-point operations of all its calls, where they were traced into a graph.
    """

    shapes: Any = None
    bytes: int = 0
    flops: int = field(default=0)


@contextmanager
def watched(layers: Iterable[Any]) -> Iterator[dict[int, Seen]]:
    """Note by layer id what layers put out while the body calls them.

    Args:
        layers: The layers; a layer that they contain is not among them by itself.
    """
    seen: dict[int, Seen] = {}
    watching = list({id(layer): layer for layer in layers}.values())
    for layer in watching:
        # Set it on the object directly, to bypass Keras's attribute tracking.
        object.__setattr__(layer, "call", _watching(layer, seen))
    try:
        yield seen
    finally:
        for layer in watching:
            vars(layer).pop("call", None)


def _watching(layer: Any, seen: dict[int, Seen]) -> Callable[..., Any]:
    import functools

    import keras
    import tensorflow as tf

    call = layer.call

    @functools.wraps(call)  # Keras reads the arguments of a layer from its signature
    def noting(*args: Any, **kwargs: Any) -> Any:
        graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        before = 0 if graph is None else len(graph.get_operations())
        outputs = call(*args, **kwargs)
        noted = seen.setdefault(id(layer), Seen())
        leaves = [leaf for leaf in keras.tree.flatten(outputs) if hasattr(leaf, "shape")]
        noted.shapes = keras.tree.map_structure(
            lambda leaf: tuple(leaf.shape) if hasattr(leaf, "shape") else (), outputs
        )
        noted.bytes += sum(_bytes(leaf) for leaf in leaves)
        noted.flops += 0 if graph is None else count_flops(graph.get_operations()[before:], leaves)
        return outputs

    return noting


def _bytes(tensor: Any) -> int:
    import tensorflow as tf

    count: int = math.prod(size or 1 for size in tensor.shape)
    return count * int(tf.as_dtype(tensor.dtype).size)


def shape_text(shapes: Any) -> str:
    """Return a nest of shapes as text; `?` for what is none."""
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())
    if not isinstance(shapes, (tuple, list)):
        return "?"
    if all(size is None or isinstance(size, int) for size in shapes):
        return f"({', '.join(map(str, shapes))})"
    return ", ".join(shape_text(shape) for shape in shapes)
