"""TensorFlow's operations in terms of Keras's, for arithmetic around a model's layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

Operation = Any  # tf.Operation
_SAME: dict[str, Callable[..., Any]] = {
    "Add": ops.add, "AddV2": ops.add, "BiasAdd": ops.add, "Sub": ops.subtract, "Mul": ops.multiply,
    "RealDiv": ops.true_divide, "Maximum": ops.maximum, "Minimum": ops.minimum, "Pow": ops.power,
    "FloorDiv": ops.floor_divide, "Neg": ops.negative, "Abs": ops.abs, "Exp": ops.exp,
    "Log": ops.log, "Log1p": ops.log1p, "Sqrt": ops.sqrt, "Rsqrt": ops.rsqrt, "Square": ops.square,
    "Tanh": ops.tanh, "Sigmoid": ops.sigmoid, "Relu": ops.relu, "Softplus": ops.softplus,
    "Softmax": ops.softmax, "LogSoftmax": ops.log_softmax, "ZerosLike": ops.zeros_like,
    "OnesLike": ops.ones_like, "Round": ops.round, "Floor": ops.floor, "Sin": ops.sin,
    "Cos": ops.cos, "Erf": ops.erf, "Greater": ops.greater, "GreaterEqual": ops.greater_equal,
    "Less": ops.less, "LessEqual": ops.less_equal, "Equal": ops.equal, "SelectV2": ops.where,
    "LogicalNot": ops.logical_not, "LogicalAnd": ops.logical_and, "LogicalOr": ops.logical_or,
}  # fmt: skip
_ALONG: dict[str, Callable[..., Any]] = {
    "Mean": ops.mean, "Sum": ops.sum, "Max": ops.max, "Min": ops.min, "Prod": ops.prod,
}  # fmt: skip


class NotTranslated(Exception):
    """An operation that has no counterpart here."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(operation.type)
        self.operation = operation


def in_keras(operation: Operation, values: Sequence[Any]) -> Any:
    """Return the results of an operation on Keras's symbolic tensors, or on arrays.

    Args:
        operation: An operation in a graph.
        values: Its inputs.

    Raises:
        NotTranslated: There is no way to write it with Keras's operations.
    """
    kind = operation.type
    if kind == "Const":
        return tf.make_ndarray(operation.get_attr("value"))
    if kind in ("Identity", "StopGradient", "PreventGradient", "CheckNumerics", "EnsureShape"):
        return values[0]
    if kind in _SAME:
        return _SAME[kind](*values)
    if kind in _ALONG:
        axes = [int(axis) for axis in np.ravel(_known(operation, 1))]
        return _ALONG[kind](values[0], axis=tuple(axes), keepdims=operation.get_attr("keep_dims"))
    if kind not in _SPECIAL:
        raise NotTranslated(operation)
    return _SPECIAL[kind](operation, values)


def _known(operation: Operation, place: int) -> Any:
    """Return an input that the graph determines."""
    value = tf.get_static_value(operation.inputs[place])
    if value is None:
        raise NotTranslated(operation)
    return value


def _shape(operation: Operation) -> list[int]:
    """Return the shape of a result, with -1 for the number of rows."""
    shape = operation.outputs[0].shape
    if shape.rank is None or shape.as_list().count(None) > 1:
        raise NotTranslated(operation)
    return [-1 if size is None else size for size in shape.as_list()]


def _sliced(operation: Operation, values: Sequence[Any]) -> Any:
    """Return what `x[..., None]`, `x[:, 1:3]` and the like have become in a graph."""
    begin, end, step = (_known(operation, place) for place in (1, 2, 3))
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    starts, ends, dots, added, single = (operation.get_attr(mask) for mask in masks)
    key: list[Any] = []
    for i in range(len(begin)):
        bit = 1 << i
        if dots & bit:
            key.append(...)
        elif added & bit:
            key.append(None)
        elif single & bit:
            key.append(int(begin[i]))
        else:
            first, last = (None if starts & bit else int(begin[i])), int(end[i])
            key.append(slice(first, None if ends & bit else last, int(step[i])))
    return values[0][tuple(key)]


def _product(operation: Operation, values: Sequence[Any]) -> Any:
    names = ("adj_x", "adj_y") if operation.type.startswith("Batch") else _TRANSPOSED
    left, right = (
        ops.swapaxes(value, -1, -2) if operation.get_attr(name) else value
        for name, value in zip(names, values, strict=True)
    )
    return ops.matmul(left, right)


def _resized(operation: Operation, values: Sequence[Any]) -> Any:
    if not operation.get_attr("half_pixel_centers") or operation.get_attr("align_corners"):
        raise NotTranslated(operation)
    how = "bilinear" if operation.type == "ResizeBilinear" else "nearest"
    size = tuple(int(side) for side in _known(operation, 1))
    images = ops.cast(values[0], operation.outputs[0].dtype.name)
    return ops.image.resize(images, size, interpolation=how, data_format="channels_last")


_TRANSPOSED = ("transpose_a", "transpose_b")
_SPECIAL: dict[str, Callable[[Operation, Sequence[Any]], Any]] = {
    "Cast": lambda op, given: ops.cast(given[0], op.outputs[0].dtype.name),
    "ExpandDims": lambda op, given: ops.expand_dims(given[0], int(_known(op, 1))),
    "Squeeze": lambda op, given: ops.squeeze(given[0], tuple(op.get_attr("squeeze_dims"))),
    "Reshape": lambda op, given: ops.reshape(given[0], _shape(op)),
    "Transpose": lambda op, given: ops.transpose(given[0], [int(i) for i in _known(op, 1)]),
    "ConcatV2": lambda op, given: ops.concatenate(given[:-1], int(_known(op, len(op.inputs) - 1))),
    "Pack": lambda op, given: ops.stack(given, op.get_attr("axis")),
    "Tile": lambda op, given: ops.tile(given[0], [int(n) for n in _known(op, 1)]),
    "ArgMax": lambda op, given: ops.cast(
        ops.argmax(given[0], int(_known(op, 1))), op.outputs[0].dtype.name
    ),
    "GatherV2": lambda op, given: ops.take(given[0], given[1], int(_known(op, 2))),
    "StridedSlice": _sliced,
    "MatMul": _product,
    "BatchMatMulV2": _product,
    "ResizeBilinear": _resized,
    "ResizeNearestNeighbor": _resized,
}
