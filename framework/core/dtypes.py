"""Casts without loss of precision on the way."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def as_dtype(value: Any, dtype: tf.DType) -> tf.Tensor:
    """Return a number or tensor in a dtype; `tf.cast` would round a Python float to float32."""
    if isinstance(value, (int, float)):
        return tf.constant(value, dtype)
    return tf.cast(value, dtype)


def to_float32(value: Any) -> tf.Tensor:
    """Return a tensor of 16-bit floats as float32, and any other tensor unchanged."""
    tensor = tf.convert_to_tensor(value)
    narrow = tensor.dtype in (tf.float16, tf.bfloat16)
    return tf.cast(tensor, tf.float32) if narrow else tensor
