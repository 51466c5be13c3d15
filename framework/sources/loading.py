"""Reads rows that TensorFlow loads by itself, such as files of images."""

from __future__ import annotations

from collections.abc import Iterator
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
        self._checked: set[int] = set()
        super().__init__(rows, batch_size, name=name, **options)

    def whole(self) -> Any:
        """Return all rows in their own order, as arrays, which are filled while they are read."""
        arrays = [
            np.empty((self.rows, *s.shape[1:]), s.dtype.as_numpy_dtype) for s in self._specs()
        ]
        at = 0
        with self.reading():
            for batch in self._loaded(np.arange(self.rows)).batch(64).prefetch(tf.data.AUTOTUNE):
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
            order = range(self.rows) if self._in_place else np.asarray(self._order)
            first = max(0, self._next) * self.batch_size
            for number in (*order[first:], *order[:first]):
                found = self._given.explain(int(number))
                if found is not None:
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

    def _loaded(self, numbers: np.ndarray) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices(numbers.astype(np.int64))
        return rows.map(self._given.load, num_parallel_calls=tf.data.AUTOTUNE)

    def _batches(self, epoch: int, start: int) -> tf.data.Dataset:
        order = np.arange(self._used) if self._in_place else np.asarray(self._order)
        rows = self._loaded(order[start * self.batch_size : self._used])
        batches = rows.batch(self.batch_size)
        numbered = batches.map(lambda *batch: (tf.constant(epoch, tf.int64), _packed(batch)))
        return numbered.prefetch(tf.data.AUTOTUNE)


def _packed(batch: tuple[Any, ...]) -> Any:
    return batch if len(batch) > 1 else batch[0]
