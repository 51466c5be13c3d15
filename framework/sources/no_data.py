"""A source without data, for steps that make their own batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from framework.data import Steps
from framework.sources.source import Source, limited


class StepSource(Source):
    """Number the examples of a `Steps`; a batch is the numbers of its examples.

    Args:
        given: The `Steps`, which has the number of batches.
        batch_size: Rows per batch.
        counts_on: Continue the numbers in the next epoch, instead of repeating them.
        seed: Seed of augmentation.
        limit: Batches per epoch: a count or a fraction.
        accumulate: Join this many batches into one; its gradient is computed batch by batch.
        map: See `Data`.
        augment: See `Data`.
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
        rows = int(given.count) * batch_size
        self._used = limited(int(given.count), limit) * batch_size
        self._size = min(batch_size * accumulate, self._used)
        self.micro_rows = batch_size if accumulate > 1 else None
        self._rows = rows if counts_on else 0
        self._every = math.ceil(rows / self._size)
        self._seed, self._map, self._augment = seed, map, augment
        self.steps: int = math.ceil(self._used / self._size)

    def cursor(self, epoch: int, start: int) -> Any:
        """Return the epoch."""
        return tf.constant(epoch, tf.int64)

    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Separate the last batch, which may have fewer rows if batches are joined."""
        whole = self._used // self._size
        runs = [(start, min(stop, whole), self._size)]
        runs.append((max(start, whole), min(stop, self.steps), self._used - whole * self._size))
        return [run for run in runs if run[0] < run[1]]

    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return the numbers of a batch's examples, mapped and augmented."""
        batch: Any = self._numbers(cursor, index, size)
        if self._map:
            batch = self._map(batch)
        if self._augment:
            step = cursor * self._every + index
            batch = self._augment(batch, tf.stack([tf.constant(self._seed, tf.int64), step]))
        return batch

    def spec(self, size: int | None = None) -> Any:
        """Trace `read` once, without running it."""
        zero = tf.constant(0, tf.int64)
        read = tf.function(
            lambda: self.read(zero, zero, size or self._size), autograph=False
        ).get_concrete_function()
        return tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), read.structured_outputs
        )

    def first(self) -> Any:
        """Return the numbers of the first batch."""
        zero = tf.constant(0, tf.int64)
        return self._numbers(zero, zero, self._size)

    def _numbers(self, epoch: tf.Tensor, index: tf.Tensor, size: int | None) -> tf.Tensor:
        first = epoch * self._rows + index * self._size
        return first + tf.range(self._size if size is None else size, dtype=tf.int64)
