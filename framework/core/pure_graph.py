"""A function of tensors as data: a graph of arithmetic that can do nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from framework.compat import operation_definition

_MOST = 2**22  # bytes of a graph
_NUMBERS = {
    tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.bool, tf.int8, tf.int16, tf.int32, tf.int64,
    tf.uint8, tf.uint16, tf.uint32, tf.uint64,
}  # fmt: skip


class NotPure(ValueError):
    """A function that is more than arithmetic on numbers."""


def encode(function: Callable[..., Any], specs: Sequence[tf.TensorSpec]) -> dict[str, Any]:
    """Trace a function of tensors, and return its graph in the form of JSON.

    Example:
        >>> double = encode(lambda x: [2 * x], [tf.TensorSpec([None])])
        >>> decode(double)(tf.constant([1.0]))
        [<tf.Tensor: shape=(1,), dtype=float32, numpy=array([2.], dtype=float32)>]

    Args:
        function: Returns a list of tensors. What it captures becomes part of the graph.
        specs: Its arguments.

    Raises:
        NotPure: It reads files, keeps state, draws random numbers, handles text, or is very large.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    if any(each.dtype not in _NUMBERS for each in traced.captured_inputs):
        raise NotPure("it uses a variable or a table")
    names, outputs = [t.name for t in traced.inputs], [t.name for t in traced.outputs]
    inner = traced.graph.as_graph_def()

    def with_captured(*tensors: tf.Tensor) -> Any:
        constants = [tf.constant(each.numpy()) for each in traced.captured_inputs]
        given = dict(zip(names, [*tensors, *constants], strict=True))
        return tf.graph_util.import_graph_def(inner, input_map=given, return_elements=outputs)

    whole = tf.function(with_captured, autograph=False).get_concrete_function(*specs)
    graph = whole.graph.as_graph_def()
    content = graph.SerializeToString(deterministic=True)
    _check(graph, len(content))
    return {
        "graph": base64.b64encode(content).decode(),
        "inputs": [tensor.name for tensor in whole.inputs],
        "outputs": [tensor.name for tensor in whole.outputs],
    }


def decode(encoded: Any) -> Callable[..., list[tf.Tensor]]:
    """Return the function that `encode` stored, to call in a graph or outside.

    Raises:
        NotPure: It is damaged, or does what `encode` refuses: it was not written by it.
    """
    try:
        content = base64.b64decode(encoded["graph"], validate=True)
        graph = tf.compat.v1.GraphDef.FromString(content)
        inputs, outputs = [[str(n) for n in encoded[key]] for key in ("inputs", "outputs")]
    except Exception as error:
        raise NotPure("it cannot be read") from error
    _check(graph, len(content))

    def apply(*tensors: tf.Tensor) -> Any:
        given = dict(zip(inputs, tensors, strict=True))
        return tf.graph_util.import_graph_def(
            graph, input_map=given, return_elements=outputs, name="prepare"
        )

    compiled = tf.function(apply, autograph=False)
    return lambda *tensors: list((compiled if tf.executing_eagerly() else apply)(*tensors))


def _check(graph: Any, size: int) -> None:
    if size > _MOST:
        raise NotPure(f"it has {size:,} bytes, more than {_MOST:,}")
    # A constant is refused last: what uses it says more.
    for node in sorted(_nodes(graph), key=lambda node: bool(node.op == "Const")):
        definition = operation_definition(node.op)
        if definition is None or definition.is_stateful:
            raise NotPure(f"it uses {node.op}, which is more than arithmetic")
        if not set(_types(node, definition)) <= _NUMBERS:
            raise NotPure(f"it uses {node.op} on something other than numbers")


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _types(node: Any, definition: Any) -> Iterator[tf.DType]:
    """Yield the types of everything that an operation takes and returns."""
    for argument in (*definition.input_arg, *definition.output_arg):
        if argument.type:
            yield tf.as_dtype(argument.type)
    for value in node.attr.values():
        found = [value.type] if value.WhichOneof("value") == "type" else value.list.type
        yield from map(tf.as_dtype, found)
