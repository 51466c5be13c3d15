"""Labels as rows of 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def one_hot_after(batch: Any, classes: int, first: Callable[[Any], Any] | None = None) -> Any:
    """Turn the labels of a batch into float32 rows of `classes`, with a 1 at the label's place.

    Losses such as `categorical_crossentropy`, and layers that mix labels, need them.

    Example:
        >>> one_hot_after((images, [2, 0]), classes=3)[1]
        <tf.Tensor: shape=(2, 3), dtype=float32, numpy=[[0., 0., 1.], [1., 0., 0.]]>

    Args:
        batch: (images, labels), or images alone, which stay as they are.
        classes: The number of classes.
        first: What else to do to the batch, before.
    """
    import tensorflow as tf

    batch = batch if first is None else first(batch)
    if not isinstance(batch, tuple):
        return batch
    images, labels, *rest = batch
    return images, tf.one_hot(labels, classes), *rest
