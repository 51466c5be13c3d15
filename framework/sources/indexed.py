"""Reads sets that have a length and are indexed by row numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.core.user_code import describe
from framework.data import Steps
from framework.errors import UserError
from framework.sources.arrays import row_bytes
from framework.sources.host_arrays import HostArraySource, fits
from framework.sources.loading import LoadsInGraph
from framework.sources.reading_processes import ReadingProcesses
from framework.sources.row_reader import RowReader, with_arrays
from framework.sources.source import Source
from framework.sources.user_exceptions import Guard


class IndexedSource(HostArraySource):
    """Read rows of a set that has a length, by a list of their numbers.

    The order is that of arrays: a permutation of (seed, epoch). So a run resumes in mid-epoch by
    going there, and its batches do not depend on how many processes read them.

    Example:
        >>> class Squares:
        ...     def __len__(self): return 100
        ...     def __getitem__(self, rows): return {"square": np.square(rows)}
        >>> IndexedSource(Squares(), 32, shuffle=True, workers=2).steps
        4

    Args:
        rows: The set; see `Data`.
        batch_size: Rows per batch.
        workers: Processes that read ahead; 0: a thread of this process does.
        signature: The shapes and types of a batch, if they vary.
        rows_axis: See `Data`.
        **options: See `ArraySource`.
    """

    def __init__(
        self,
        rows: Any,
        batch_size: int,
        *,
        workers: int = 0,
        signature: Any = None,
        rows_axis: Any = 0,
        name: str = "data",
        **options: Any,
    ) -> None:
        self._guard = Guard(f"the {name} set", name, rows_axis)
        self._signature, self._given = signature, rows
        self._workers = workers
        super().__init__(rows, batch_size, name=name, **options)

    def cursor(self, epoch: int, start: int) -> Any:
        now = self._length()
        if now != self.rows:
            raise UserError(
                f"{self._guard.what} had {self.rows:,} rows, and now has {now:,}",
                where=self._guard.where,
                fix="Keep its length as it is while a run reads it; or give a generator function "
                "that takes the epoch: def batches(epoch).",
            )
        return super().cursor(epoch, start)

    def first(self) -> Any:
        """Read the first batch in this process, which leaves what is read ahead as it is."""
        leaves = [tf.convert_to_tensor(leaf) for leaf in self._leaves(self._numbers()(0))]
        return tf.nest.pack_sequence_as(self._tensors, leaves)

    def whole(self) -> Any:
        """Return all rows in their own order, as arrays."""
        rows = range(self.rows)
        parts = [self._leaves(rows[at : at + _AT_ONCE]) for at in range(0, self.rows, _AT_ONCE)]
        arrays = [np.concatenate(leaves) for leaves in zip(*parts, strict=True)]
        return tf.nest.pack_sequence_as(self._tensors, arrays)

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._guard.retold():
            yield

    def _opened(self, rows: Any, name: str, held: dict[int, Any]) -> int:
        count = self._length()
        if count:
            with self._guard.blaming():
                self._read = RowReader(rows)
                first = self._read([0, 0])
                self._leaf_specs = self._guard.specs(first, self._signature)
            self._tensors = first  # what the structure of a batch is
            self._processes = ReadingProcesses(self._read, self._workers, where=self._guard.where)
        return count

    def _length(self) -> int:
        with self._guard.blaming():
            return len(self._given)

    def _specs(self) -> list[Any]:
        return self._leaf_specs

    def _row_bytes(self) -> int:
        fixed = all(spec.shape[1:].is_fully_defined() for spec in self._leaf_specs)
        return row_bytes(self._leaf_specs) if fixed else 2**62  # evaluated in the given batches

    def _leaves(self, numbers: Any) -> list[np.ndarray]:
        with self._guard.noting():
            return self._checked(self._read(numbers), len(numbers))

    def _checked(self, batch: Any, count: int) -> list[np.ndarray]:
        """Return the leaves of a batch in their declared types, after checking their shapes."""
        leaves = self._guard.check(batch, self._tensors, self._leaf_specs)
        if any(np.ndim(leaf) and len(leaf) != count for leaf in leaves):
            found = describe(tf.nest.map_structure(self._guard.spec_of, batch))
            raise UserError(
                f"{self._guard.what} returns a batch of {found} for {count} rows",
                where=self._guard.where,
                fix="Return one row for every number in the list that it is indexed by.",
            )
        wanted = [spec.dtype.as_numpy_dtype for spec in self._leaf_specs]
        return [
            leaf if dtype is object else leaf.astype(dtype, casting="same_kind", copy=False)
            for leaf, dtype in zip(leaves, wanted, strict=True)
        ]

    def _numbers(self) -> Callable[[int], Sequence[int]]:
        """Return a function of a batch's number: the numbers of its rows."""
        rows, every = self._rows_by_batch(), range(self.rows)

        def numbers(number: int) -> Any:
            part = rows(number)
            return every[part] if isinstance(part, slice) else part

        return numbers

    def _batches(self, first: int, last: int) -> tf.data.Dataset:
        numbers = self._numbers()
        if not self._workers:
            return self._read_by(lambda number: self._leaves(numbers(number)), first, last)
        following = self._processes.in_order(numbers, first, last)

        def take(number: int) -> list[np.ndarray]:  # called in order: the map has one thread
            with self._guard.noting():
                batch = following()
                if batch is not None:
                    return self._checked(batch, len(numbers(number)))
            raise RuntimeError("nobody reads this order any more")

        return self._read_by(take, first, last)


_AT_ONCE = 1024  # rows


def is_indexed(given: Any) -> bool:
    """Return whether something is a set that is read by row numbers, and not arrays or a stream.

    Example:
        >>> is_indexed(hugging_face_set), is_indexed(np.zeros(3)), is_indexed([1, 2])
        (True, False, False)
    """
    others = (tuple, list, str, bytes, Mapping, Source, Steps, tf.data.Dataset)
    if isinstance(given, (*others, keras.utils.PyDataset)) or hasattr(given, "__array__"):
        return False
    kind = type(given)
    reads = hasattr(kind, "__getitem__") or isinstance(given, LoadsInGraph)
    return hasattr(kind, "__len__") and reads and not isinstance(given, type)


def columns(given: Any) -> dict[str, np.ndarray] | None:
    """Return the columns of a set of Hugging Face as arrays, if it holds them and they fit.

    None for any other set, and for columns that are decoded or computed when they are read.
    """
    features = getattr(given, "features", None)
    if not hasattr(given, "with_format") or not isinstance(features, Mapping) or not len(given):
        return None
    if getattr(given, "format", {}).get("type") == "custom":
        return None
    if any(getattr(feature, "decode", False) for feature in features.values()):
        return None
    plain = with_arrays(given).with_format("numpy")
    row = {name: np.asarray(value) for name, value in plain[:1].items()}
    sizes = sum(array.nbytes for array in row.values())
    if any(array.dtype == object for array in row.values()) or not fits(sizes * len(given)):
        return None
    found = {name: np.asarray(value) for name, value in plain[:].items()}
    return None if any(array.dtype == object for array in found.values()) else found
