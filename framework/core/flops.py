"""Counts the floating-point operations of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from framework.compat import called_function


def count_flops(operations: Iterable[tf.Operation], outputs: Iterable[Any] = ()) -> int:
    """Return the floating-point operations of products and convolutions, with all that they call.

    A multiplication and an addition count as two. What works on one element at a time, such as an
    activation, is left out, since it takes a small part of the time. A loop counts as often as it
    runs; if that or a shape is known only when the graph runs, it counts once.

    Example:
        >>> function = tf.function(tf.matmul)
        >>> spec = [tf.TensorSpec([2, 3]), tf.TensorSpec([3, 5])]
        >>> count_flops(function.get_concrete_function(*spec).graph.get_operations())
        60

    Args:
        operations: The operations, in any order.
        outputs: What they are run for. Operations that neither lead to these nor change anything
            are left out, as TensorFlow does. Default: all operations count.
    """
    given = {each.name: each for each in operations}
    ends = [tensor.op for tensor in outputs if hasattr(tensor, "op")]
    if not ends:
        return sum(map(_flops, given.values()))
    ends += [each for each in given.values() if each.op_def.is_stateful]
    live: dict[str, tf.Operation] = {}
    while ends:
        each = ends.pop()
        if each.name in given and each.name not in live:
            live[each.name] = each
            ends += [*(tensor.op for tensor in each.inputs), *each.control_inputs]
    return sum(map(_flops, live.values()))


def _flops(operation: tf.Operation) -> int:
    count = _COUNTS.get(operation.type)
    if count is not None:
        return count(operation)
    called = [_of_function(operation.graph, name) for name in _names(operation)]
    if operation.type in ("While", "StatelessWhile"):
        return _trips(operation) * sum(called)
    if operation.type in ("If", "StatelessIf", "Case", "StatelessCase"):
        return max(called, default=0)
    return sum(called)


def _of_function(graph: Any, name: str) -> int:
    function = called_function(graph, name)
    return 0 if function is None else count_flops(function.get_operations(), function.outputs)


def _names(operation: tf.Operation) -> list[str]:
    values = operation.node_def.attr.values()
    names = [name for v in values for name in (v.func.name, *(f.name for f in v.list.func))]
    return [name for name in names if name]


def _trips(operation: tf.Operation) -> int:
    """Return how often a loop runs, where its limit is known: the second of its inputs."""
    limit = operation.inputs[1]
    while limit.op.type == "Identity":
        limit = limit.op.inputs[0]
    if limit.op.type in ("While", "StatelessWhile"):  # of the forward pass, in a gradient
        return _trips(limit.op)
    if limit.op.type == "Max":  # Keras takes it over the lengths of all sequences
        limit = limit.op.inputs[0]
    known = tf.get_static_value(limit)
    return max(1, int(known.max())) if known is not None and known.size else 1


def _size(tensor: Any) -> int:
    return math.prod(_shape(tensor))


def _shape(tensor: Any) -> list[int]:
    rank = tensor.shape.rank
    return [1] if rank is None else [size or 1 for size in tensor.shape]


def _product(operation: tf.Operation) -> int:
    left = _shape(operation.inputs[0])
    name = "transpose_a" if operation.type == "MatMul" else "adj_x"
    inner = left[-2 if operation.get_attr(name) else -1]
    return 2 * _size(operation.outputs[0]) * inner


def _einsum(operation: tf.Operation) -> int:
    equation = operation.get_attr("equation").decode()
    sizes: dict[str, int] = {}
    for labels, tensor in zip(
        equation.partition("->")[0].split(","), operation.inputs, strict=True
    ):
        shape = _shape(tensor)
        before, dots, after = labels.partition("...")
        named = [*zip(before, shape, strict=False), *zip(after[::-1], shape[::-1], strict=False)]
        between = shape[len(before) : len(shape) - len(after)] if dots else []
        named += [(f".{len(between) - i}", size) for i, size in enumerate(between)]
        sizes |= {label: max(size, sizes.get(label, 1)) for label, size in named}
    return (2 if len(operation.inputs) > 1 else 0) * math.prod(sizes.values())


def _convolution(outputs: int, kernel: Callable[[Any], Any], channels: bool) -> Any:
    """Return the count of a convolution or of one of its two gradients.

    Args:
        outputs: The input that has the shape of its output; -1: the output itself.
        kernel: Returns the tensor that has the shape of its kernel.
        channels: Whether each output sums over the kernel's input channels.
    """

    def count(operation: tf.Operation) -> int:
        made = operation.outputs[0] if outputs < 0 else operation.inputs[outputs]
        shape = _shape(kernel(operation))
        return 2 * _size(made) * math.prod(shape[:-1] if channels else shape[:-2])

    return count


def _given(number: int) -> Callable[[Any], Any]:
    return lambda operation: operation.inputs[number]


def _made(operation: tf.Operation) -> Any:
    return operation.outputs[0]


_COUNTS: dict[str, Callable[[Any], int]] = {
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product),
    "Einsum": _einsum,
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution(-1, _given(1), True)),
    **dict.fromkeys(
        ("Conv2DBackpropInput", "Conv3DBackpropInput", "Conv3DBackpropInputV2"),
        _convolution(2, _given(1), True),
    ),
    **dict.fromkeys(
        ("Conv2DBackpropFilter", "Conv3DBackpropFilter", "Conv3DBackpropFilterV2"),
        _convolution(2, _made, True),
    ),
    "DepthwiseConv2dNative": _convolution(-1, _given(1), False),
    "DepthwiseConv2dNativeBackpropInput": _convolution(2, _given(1), False),
    "DepthwiseConv2dNativeBackpropFilter": _convolution(2, _made, False),
}
