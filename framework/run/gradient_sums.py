"""Add several tensors in a fixed order, so that the result is reproducible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import tensorflow as tf

from framework.compat import sums_made_by

_REWRITES = "arithmetic_optimization"


@contextmanager
def added_in_order(*, everywhere: bool = False) -> Iterator[None]:
    """Make TensorFlow add tensors pairwise, in a fixed order, in what the body traces.

    With three or more inputs, TensorFlow's AddN starts with whichever input it may overwrite. That
    depends on which thread was faster, so the last bit would differ between runs. AddN adds up the
    gradients of a tensor with several uses, and the tensors of `tf.add_n`.

    Example:
        >>> with added_in_order():
        ...     step.get_concrete_function()

    Args:
        everywhere: Also keep the graph optimizer from turning `a + b + c` into an AddN. This turns
            its arithmetic optimizations off, which makes some graphs slower.
    """
    rewrites = tf.config.optimizer.get_experimental_options().get(_REWRITES, True)
    try:
        if everywhere:
            tf.config.optimizer.set_experimental_options({_REWRITES: False})
        with sums_made_by(_by_pairs):
            yield
    finally:
        if everywhere:
            tf.config.optimizer.set_experimental_options({_REWRITES: rewrites})


def _by_pairs(add_n: Callable[..., Any]) -> Callable[..., Any]:
    def add(inputs: Sequence[Any], name: str | None = None) -> Any:
        if len(inputs) < 3 or any(each.dtype == tf.variant for each in inputs):
            return add_n(inputs, name=name)
        *rest, total = inputs
        for each in reversed(rest):
            total = _apart(total + each)
        return tf.identity(total, name=name) if name else total

    return add


def _apart(tensor: tf.Tensor) -> tf.Tensor:
    """Return the tensor such that TensorFlow's graph optimizer does not merge it into an AddN."""
    return tf.raw_ops.Snapshot(input=tensor)


# TensorFlow gives a Snapshot no gradient. `tf.custom_gradient` would register one for each use, for
# ever, and with it keep the graph of every run alive.
with suppress(KeyError):  # it has one after all
    tf.RegisterGradient("Snapshot")(lambda operation, upstream: upstream)
