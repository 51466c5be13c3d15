"""ONNX, for any runtime that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from framework.serving.answers import Arrays
from framework.serving.quiet import quiet
from framework.serving.trained import Trained
from framework.serving.unsupported import operations_of, unsupported

_OPSET = 17


def write(trained: Trained, path: Path, about: str) -> None:
    """Write a file with named inputs and outputs, and any number of rows."""
    import onnx
    import tf2onnx

    answers = trained.answers
    names, specs = list(answers.inputs), list(answers.inputs.values())

    def in_order(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = answers.answer(**dict(zip(names, tensors, strict=True)))
        return found

    function = tf.function(in_order, input_signature=specs, autograph=False)
    try:
        with quiet():
            model, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=_OPSET)
        _keep_captured(model, function.get_concrete_function(), names)
    except Exception as error:  # the converter has no kind of its own
        tables = [kind for kind in operations_of(trained) if kind.startswith("LookupTable")]
        raise unsupported("onnx", tables, trained, str(error)) from error
    unknown = {n.op_type for n in model.graph.node if not onnx.defs.has(n.op_type, n.domain)}
    if unknown:
        raise unsupported("onnx", unknown, trained)
    onnx.helper.set_model_props(model, {"model.json": about})
    onnx.save(model, str(path))


def _keep_captured(model: Any, traced: Any, names: Sequence[str]) -> None:
    """Store what the function captures, such as an adapted mean, instead of asking for it."""
    from onnx import numpy_helper

    held = {inner.name: outer for outer, inner in traced.graph.captures}
    used = {name for node in model.graph.node for name in node.input}
    for given in [each for each in model.graph.input if each.name not in names]:
        if given.name in used:
            value = numpy_helper.from_array(held[given.name].numpy(), given.name)
            model.graph.initializer.append(value)
        model.graph.input.remove(given)


def read(path: Path, trained: Trained) -> Callable[[Arrays], Arrays]:
    """Return the function that such a file holds."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(None, given), strict=True))
