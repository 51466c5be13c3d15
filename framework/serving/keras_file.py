"""Keras's own file: a functional model with what comes before and after the task's networks."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.compat import layers_within, scratch_graph
from framework.core.models_by_name import models_of
from framework.errors import UserError
from framework.serving.answers import Arrays
from framework.serving.keras_ops import NotTranslated, in_keras
from framework.serving.layer_calls import LayerCall, layer_calls
from framework.serving.trained import Trained
from framework.serving.unsupported import unsupported

_log = logging.getLogger("framework")


def write(trained: Trained, path: Path, about: str) -> None:
    """Write a file that Keras opens by itself.

    Layers of the user's own classes are replaced by the Keras layers that they call. Where they do
    something that Keras has no operation for, the class stays, and is needed to open the file.
    """
    try:
        model = _model_of(trained, whole=False)
    except NotTranslated:
        try:
            model = _model_of(trained, whole=True)
        except NotTranslated as error:
            raise unsupported("keras", [error.operation.type], trained) from None
        _say_needed(path.name, trained)
    try:
        model.save(path)
    except Exception as error:  # of the code of a class
        raise _refused("save", error) from error
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.json", about)


def read(path: Path, trained: Trained) -> Callable[[Arrays], Arrays]:
    """Return the function that such a file holds."""
    own = {name: kind for name, kind in _own(trained).items() if ">" not in name}
    try:
        model = keras.saving.load_model(path, custom_objects=own, compile=False)
    except Exception as error:  # of the code of a class
        raise _refused("open", error) from error

    def call(given: Arrays) -> Arrays:
        one = next(iter(given.values())) if len(given) == 1 else given
        found = model(one, training=False)
        named = found if isinstance(found, Mapping) else {model.output_names[0]: found}
        return {name: np.asarray(tensor) for name, tensor in named.items()}

    return call


def _refused(verb: str, error: Exception) -> UserError:
    reasons = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = reasons[-1].removeprefix("Exception encountered: ")[:200]
    return UserError(
        f"Keras cannot {verb} a class of the model: {reason}",
        where="export.format=keras",
        fix="Give the class get_config, and an __init__ that takes **options for Keras's own; or "
        "export to another format, such as saved_model.",
    )


def _model_of(trained: Trained, *, whole: bool) -> keras.Model:
    """Return the function from raw inputs to predictions as a functional model."""
    answers = trained.answers
    graph = scratch_graph("keras")
    with graph.as_default(), layer_calls(whole=whole) as calls:
        given = {
            name: tf.compat.v1.placeholder(spec.dtype, spec.shape)
            for name, spec in answers.inputs.items()
        }
        made = answers.answer(**given)
    inputs = {
        name: keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name)
        for name, spec in answers.inputs.items()
    }
    values = {id(tensor): inputs[name] for name, tensor in given.items()}
    values |= {id(inner): _captured(outer) for outer, inner in graph.captures}
    # Named by a layer, since Keras names outputs by what makes them.
    outputs = {
        name: keras.layers.Identity(name=name, dtype=tensor.dtype.name)(
            _value(tensor, values, calls)
        )
        for name, tensor in made.items()
    }
    one_in, one_out = len(inputs) == 1, len(outputs) == 1
    return keras.Model(
        next(iter(inputs.values())) if one_in else inputs,
        next(iter(outputs.values())) if one_out else outputs,
        name=type(trained.task).__name__.lower(),
    )


def _value(wanted: tf.Tensor, values: dict[int, Any], calls: Mapping[int, LayerCall]) -> Any:
    """Return what a tensor of the graph is in the functional model.

    Args:
        wanted: The tensor.
        values: What others are, by id; extended.
        calls: The calls of layers by the id of what they return.
    """
    left = [wanted]
    while left:
        tensor = left[-1]
        if id(tensor) in values:
            left.pop()
            continue
        call = calls.get(id(tensor))
        needed = list(tensor.op.inputs) if call is None else _tensors(call)
        missing = [each for each in needed if id(each) not in values]
        if missing:
            left += missing
        elif call is None:
            values[id(tensor)] = in_keras(tensor.op, [values[id(each)] for each in needed])
        else:
            _call_again(call, values)
    return values[id(wanted)]


def _call_again(call: LayerCall, values: dict[int, Any]) -> None:
    arguments, named = tf.nest.map_structure(
        lambda leaf: values[id(leaf)] if isinstance(leaf, tf.Tensor) else leaf,
        (call.arguments, call.named),
    )
    made = call.layer(*arguments, **named)
    pairs = zip(tf.nest.flatten(call.outputs), tf.nest.flatten(made), strict=True)
    values.update({id(old): new for old, new in pairs if id(old) not in values})


def _tensors(call: LayerCall) -> list[tf.Tensor]:
    leaves = tf.nest.flatten((call.arguments, call.named))
    return [leaf for leaf in leaves if isinstance(leaf, tf.Tensor)]


def _captured(outer: Any) -> Any:
    return outer.numpy() if outer.dtype not in (tf.resource, tf.variant) else None


def _say_needed(file: str, trained: Trained) -> None:
    own = _own(trained)
    plain = [f'"{name}": {name}' for name in own if ">" not in name]
    also = f", and give load_model(custom_objects={{{', '.join(plain)}}})" if plain else ""
    _log.warning(
        "%s needs classes of your own, which do what Keras has no operation for: "
        "to open it, import %s first%s",
        file,
        ", ".join(f"{kind.__module__}.{kind.__name__}" for kind in own.values()),
        also,
    )


def _own(trained: Trained) -> dict[str, type]:
    """Return the classes of layers that are not Keras's, by the name that Keras saves."""
    models = models_of(trained.model).values()
    kinds = {type(layer) for model in models for layer in layers_within(model)}
    own = sorted((k for k in kinds if k.__module__.split(".")[0] != "keras"), key=str)
    return {keras.saving.get_registered_name(kind): kind for kind in own}
