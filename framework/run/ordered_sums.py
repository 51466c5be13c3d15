"""Sums of several tensors, in an order that does not depend on chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.compat import sums_made_by

_REWRITES = "arithmetic_optimization"


@contextmanager
def added_in_order(*, everywhere: bool = False) -> Iterator[None]:
    """Have TensorFlow add up what is traced in the body two at a time, always in the same order.

    Its AddN of three and more begins with whichever input it may overwrite, and that depends on
    which thread was faster: the last bit would differ from run to run. The gradients of what is
    used several times are added up by AddN, and so are the tensors of `tf.add_n`.

    Example:
        >>> with added_in_order():
        ...     step.get_concrete_function()

    Args:
        everywhere: Keep the graph optimizer from making an AddN of `a + b + c`, too, by switching
            off its arithmetic, which makes some graphs slower.
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


def _snapshot(tensor: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Return a tensor that TensorFlow's graph optimizer does not add to others before."""
    return tf.raw_ops.Snapshot(input=tensor), lambda upstream: upstream


_apart: Callable[[tf.Tensor], tf.Tensor] = tf.custom_gradient(_snapshot)
