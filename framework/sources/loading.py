"""Reads rows that TensorFlow loads by itself, such as files of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from framework.errors import UserError
from framework.sources.arrays import row_bytes
from framework.sources.host_arrays import HostArraySource


@runtime_checkable
class LoadsInGraph(Protocol):
    """A set whose rows TensorFlow can load by itself, on as many threads as there are cores."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def load(self, number: tf.Tensor) -> Any:
        """Return a row, in the graph; its shapes must be known."""

    def explain(self, number: int) -> UserError | None:
        """Return why a row cannot be loaded, or None if it can."""


class LoadingSource(HostArraySource):
    """Read rows that the graph loads, on all cores, in the same order as an `IndexedSource`.

    Args:
        rows: A `LoadsInGraph`.
        batch_size: Rows per batch.
        **options: See `ArraySource`.
    """

    def __init__(self, rows: LoadsInGraph, batch_size: int, *, name: str = "data", **options: Any):
        self._given, self._name = rows, name
        super().__init__(rows, batch_size, name=name, **options)

    def first(self) -> Any:
        """Read the first batch without moving the current iterator."""
        (_, _, size), *_ = self.parts(0, 1)
        return self._cut(super().first(), size)

    def whole(self) -> Any:
        """Return all rows in their own order, as arrays, which are filled while they are read."""
        rows = self._loaded(tf.data.Dataset.range(self.rows))
        shapes = [((self.rows, *s.shape[1:]), s.dtype.as_numpy_dtype) for s in self._specs()]
        arrays, at = [np.empty(*each) for each in shapes], 0
        with self.reading():
            for batch in rows.batch(64).prefetch(tf.data.AUTOTUNE):
                for array, leaf in zip(arrays, tf.nest.flatten(batch), strict=True):
                    array[at : at + len(leaf)] = leaf.numpy()
                at += len(leaf)
        return tf.nest.pack_sequence_as(self._tensors, arrays)

    @contextmanager
    def reading(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            if isinstance(error, tf.errors.OutOfRangeError):
                raise
            rows = self._numbers()
            for batch in range(self._next, self._next + self.steps):
                for number in rows(batch):
                    if (found := self._given.explain(int(number))) is not None:
                        raise found from None
            raise

    def _opened(self, rows: Any, name: str, held: dict[int, Any]) -> int:
        self._tensors = (
            tf.function(rows.load, autograph=False)
            .get_concrete_function(tf.TensorSpec([], tf.int64))
            .structured_outputs
        )
        return len(rows)

    def _specs(self) -> list[Any]:
        leaves = tf.nest.flatten(self._tensors)
        return [tf.TensorSpec([None, *leaf.shape], leaf.dtype) for leaf in leaves]

    def _row_bytes(self) -> int:
        return row_bytes(self._specs())

    def _numbers(self) -> Callable[[int], np.ndarray]:
        """Return a function of a batch's number: the numbers of its rows."""
        rows = self._rows_by_batch()

        def numbers(number: int) -> np.ndarray:
            part = rows(number)
            return np.arange(part.start, part.stop) if isinstance(part, slice) else part

        return numbers

    def _loaded(self, rows: tf.data.Dataset) -> tf.data.Dataset:
        return rows.map(self._given.load, num_parallel_calls=tf.data.AUTOTUNE)

    def _batches(self, first: int, last: int) -> tf.data.Dataset:
        rows, size = self._numbers(), self.batch_size

        def filled(number: int) -> np.ndarray:
            # The ragged last batch of an epoch is filled up, so that reading goes on without a
            # break, and cut by `_gathered`.
            return np.resize(rows(number).astype(np.int64), size)

        def rows_of(number: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(filled, [number], tf.int64), [size])

        numbers, ahead = tf.data.Dataset.range(first, last), tf.data.AUTOTUNE
        # A stage that is not parallel reads ahead, as it has to wait for cores that decode.
        batches = self._loaded(numbers.map(rows_of).prefetch(ahead).unbatch()).batch(size)
        return tf.data.Dataset.zip((numbers, batches)).prefetch(ahead)

    def _gathered(self, cursor: Any, index: tf.Tensor, size: int | None) -> tuple[Any, Any]:
        number, batch = self.taken(cursor)
        return number // self.steps, self._cut(batch, size)

    def _cut(self, batch: Any, size: int | None) -> Any:
        def cut(leaf: tf.Tensor, spec: Any) -> tf.Tensor:
            return tf.ensure_shape(leaf[:size], [size, *spec.shape])

        return tf.nest.map_structure(cut, batch, self._tensors)
