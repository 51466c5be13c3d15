"""A source without data, for steps that make their own batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from framework.data import Steps
from framework.sources.source import RowSource


class StepSource(RowSource):
    """Number the examples of a `Steps`; a batch is the numbers of its examples.

    If it `counts_on`, the numbers continue in the next epoch, instead of repeating.
    """

    resident = True  # it never waits for data

    def __init__(
        self,
        given: Steps,
        batch_size: int,
        *,
        counts_on: bool = False,
        seed: int = 0,
        limit: int | float = 1.0,
        accumulate: int = 1,
        map: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, tf.Tensor], Any] | None = None,
    ) -> None:
        self.count = int(given.count) * batch_size
        self._count_batches(batch_size, limit, accumulate)
        self._counts_on = counts_on
        self._map, self._augment, self._seed = map, augment, seed

    def cursor(self, epoch: int, start: int) -> Any:
        return tf.constant(epoch, tf.int64)

    def first(self) -> Any:
        zero = tf.constant(0, tf.int64)
        return self._gathered(zero, zero, None)[1]

    def _gathered(self, cursor: Any, index: tf.Tensor, size: int | None) -> tuple[Any, Any]:
        first = cursor * (self.count if self._counts_on else 0) + index * self.batch_size
        return cursor, first + tf.range(size or self.batch_size, dtype=tf.int64)
