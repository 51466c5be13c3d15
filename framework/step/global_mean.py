"""Computes a mean over the whole batch, inside a step that has one device's share of it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from framework.core.dtypes import as_dtype
from framework.devices.replicas import Replicas


def global_mean(values: Any, weights: Any, share: Any, replicas: Replicas) -> tf.Tensor:
    """Return a device's part of sum(values * weights) / sum(weights) over all devices.

    The mean of the parts, weighted by `share` of the step's examples (None: all), is the ratio;
    losses and logged values are reduced in this way.
    """
    values = tf.convert_to_tensor(values)
    if values.dtype.size < 4:
        values = tf.cast(values, tf.float32)
    weights = tf.stop_gradient(as_dtype(weights, values.dtype))
    weights = tf.broadcast_to(weights, tf.shape(values))
    # A weight of 0 excludes a value, even if it is not finite.
    own = tf.reduce_sum(tf.math.multiply_no_nan(values, weights))
    if share is None:
        return tf.math.divide_no_nan(own, tf.reduce_sum(weights))
    share = as_dtype(share, values.dtype)
    # A device without rows computes on a row of another device.
    counted = tf.where(share > 0, tf.reduce_sum(weights), 0)
    (total,) = replicas.sum([counted])
    return tf.math.divide_no_nan(own, tf.stop_gradient(total) * share)
