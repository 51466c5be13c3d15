"""Add several tensors in a fixed order, so that the result is reproducible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.compat import keep_sum, sums_made_by


@contextmanager
def added_in_order() -> Iterator[None]:
    """Make TensorFlow add tensors pairwise, in a fixed order, in what the body traces.

    With three or more inputs, TensorFlow's AddN starts with whichever input it may overwrite. That
    depends on which thread was faster, so the last bit would differ between runs. AddN adds up the
    gradients of a tensor with several uses, and the tensors of `tf.add_n`; and the graph optimizer
    turns `a + b + c` into one.

    Example:
        >>> with added_in_order():
        ...     step.get_concrete_function()
    """
    with sums_made_by(_in_order):
        yield


def _in_order(
    add_n: Callable[..., Any], add_v2: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def add(x: Any, y: Any, name: str | None = None) -> Any:
        return _kept(add_v2(x, y, name=name))

    def add_all(inputs: Sequence[Any], name: str | None = None) -> Any:
        if len(inputs) < 3 or any(each.dtype == tf.variant for each in inputs):
            return _kept(add_n(inputs, name=name))
        *rest, total = inputs
        for each in reversed(rest):
            total = total + each
        return tf.identity(total, name=name) if name else total

    return add_all, add


def _kept(total: Any) -> Any:
    """Return a sum that TensorFlow's graph optimizer does not merge with others into an AddN."""
    if tf.is_symbolic_tensor(total):
        keep_sum(total.op)
    return total
