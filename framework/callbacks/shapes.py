"""The output shapes of a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras


def output_shapes(model: Any) -> dict[int, str]:
    """Return the output shapes of a model's layers, one level deep, as text by layer id.

    If Keras does not store a shape, as for the pooling layers of a subclassed model, the model is
    called on symbolic inputs to find it. An unknown shape is `?`; an unknown dimension is None.
    """
    layers = [layer for one in layers_of(model) for layer in (one, *_inside(one))]
    found = {id(layer): _kept(layer) for layer in layers}
    if "?" in found.values():
        seen = _seen(model, [layer for layer in layers if found[id(layer)] == "?"])
        found |= {key: _text(shapes) for key, shapes in seen.items()}
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
    return _text(shapes)


def _seen(model: Any, layers: Iterable[Any]) -> dict[int, Any]:
    """Call a built model on symbolic inputs; return the shapes of the layers' outputs."""
    config = model.get_build_config() if model.built else None
    shape = config and config.get("input_shape")
    if not isinstance(shape, (tuple, list)) or not all(n is None or type(n) is int for n in shape):
        return {}
    seen: dict[int, Any] = {}
    watched = list(layers)
    for layer in watched:
        # Set it on the object directly, to bypass Keras's attribute tracking.
        object.__setattr__(layer, "call", _watching(layer, seen))
    try:
        model.compute_output_spec(keras.KerasTensor(tuple(shape)))
    except Exception:  # user code, as above
        return {}
    finally:
        for layer in watched:
            vars(layer).pop("call", None)
    return seen


def _watching(layer: Any, seen: dict[int, Any]) -> Callable[..., Any]:
    call = layer.call

    def watched(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        seen[id(layer)] = keras.tree.map_structure(lambda t: tuple(t.shape), outputs)
        return outputs

    return watched


def _text(shapes: Any) -> str:
    if isinstance(shapes, Mapping):
        return ", ".join(f"{name} {_text(shape)}" for name, shape in shapes.items())
    if not isinstance(shapes, (tuple, list)):
        return "?"
    if all(size is None or isinstance(size, int) for size in shapes):
        return f"({', '.join(map(str, shapes))})"
    return ", ".join(_text(shape) for shape in shapes)
