"""Checks the names and values that a task logs."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from framework.core.dtypes import as_dtype
from framework.errors import UserError

_NO_NUMBERS = {f"tensor of {kind}" for kind in ("string", "complex64", "complex128")}


def check_name(name: Any, where: str) -> None:
    """Reject a name that a log cannot store, or that the trainer uses itself."""
    if checked_name(name, where, 'a word, such as "loss"').endswith("_epoch"):
        raise UserError(
            f"{name!r} ends in _epoch, which is reserved for means over an epoch",
            where=where,
            fix=f"Log {name.removesuffix('_epoch')!r}: its mean over the epoch is logged too.",
        )


def checked_name(
    name: Any, where: str = "log_metrics", wanted: str = 'a full name, such as "val/auc"'
) -> str:
    """Return a name without line ends and the like, by default a full one, such as `val/auc`."""
    if isinstance(name, str) and name.strip() and name == " ".join(name.split()):
        return name
    raise UserError(f"{name!r} is not a name for a metric", where=where, fix=f"Give {wanted}.")


def number_of(name: str, value: Any, where: str = "log_metrics") -> float:
    """Convert a Python number, NumPy number or tensor with one element to a float."""
    try:
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        if array.size == 1 and (array.dtype.kind in "biuf" or "float" in array.dtype.name):
            return float(array.reshape(()))
    except (TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError):
        pass
    raise UserError(
        f"{name} is {describe_value(value)}, not a number",
        where=where,
        fix="Log one number: tf.reduce_mean(value), float(value).",
    )


def describe_value(value: Any) -> str:
    """Return a short description of a value."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    if shape is not None and value is not None:
        return f"a {kind} of shape {tuple(shape)}"
    return f"a {kind}" if value is not None else "None"


def mean_of(value: Any, where: str) -> tf.Tensor:
    """Return the mean of a value's elements, a float64 scalar."""
    try:
        tensor = tf.convert_to_tensor(value)
        kind = f"tensor of {tensor.dtype.name}"
    except (TypeError, ValueError):
        tensor, kind = None, type(value).__name__
    if tensor is None or not tensor.dtype.is_numpy_compatible or kind in _NO_NUMBERS:
        raise UserError(
            f"a {kind} was logged", where=where, fix="Log a number, a tensor or a keras.Metric."
        )
    number = as_dtype(value if isinstance(value, float) else tensor, tf.float64)
    return number if number.shape.rank == 0 else tf.reduce_mean(number)


def weight_of(weight: Any, where: str) -> tf.Tensor:
    """Return a weight as a float64 scalar."""
    tensor = tf.convert_to_tensor(weight)
    if tensor.shape.rank != 0:
        raise UserError(
            f"the weight has shape {tensor.shape}",
            where=where,
            fix="Give one number for the batch. To weight its examples, log sum(value * weight) / "
            "sum(weight), with sum(weight) as the weight.",
        )
    return as_dtype(weight if isinstance(weight, float) else tensor, tf.float64)


def unless_empty(value: Any, weight: tf.Tensor) -> tf.Tensor:
    """Return the weight of a value, or 0 if the value has no elements."""
    if isinstance(value, (int, float)):
        return weight
    tensor = tf.convert_to_tensor(value)
    known = tensor.shape.num_elements()
    if known is not None:
        return weight if known else tf.zeros_like(weight)
    return tf.where(tf.size(tensor) > 0, weight, tf.zeros_like(weight))
