"""Reads batches from arrays on the device, in any order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.core.not_finite import refuse_nan
from framework.errors import UserError
from framework.sources.source import RowSource
from framework.sources.user_exceptions import not_dense


class ArraySource(RowSource):
    """Gather batches from arrays on the device; a batch depends only on (seed, epoch, step).

    Args:
        arrays: A nest of arrays with the same number of rows.
        batch_size: Rows per batch; the last batch of an epoch may have fewer.
        large: Use larger batches than `batch_size` if that costs little memory; for evaluation.
        shuffle: Use a different order in every epoch.
        part: (first, count): use only `count` rows, from position `first` of a permutation that
            depends on the seed. Default: all rows, in their own order.
        held: Existing tensors by the id of their array, so that no array is stored twice.
        map, augment, seed, limit, accumulate, name: See `Source`.
    """

    resident = True

    def __init__(
        self,
        arrays: Any,
        batch_size: int,
        *,
        large: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        part: tuple[int, int] | None = None,
        map: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, tf.Tensor], Any] | None = None,
        limit: int | float = 1.0,
        accumulate: int = 1,
        name: str = "data",
        held: dict[int, tf.Tensor] | None = None,
    ) -> None:
        self.rows = self._opened(arrays, name, {} if held is None else held)
        self._first, self.count = part if part else (0, self.rows)
        if self.count == 0:
            raise UserError(
                f"the {name} set has no rows",
                where=f"data.{name}",
                fix="Give at least one; check what selects them, such as a slice or a filter.",
            )
        size = min(batch_size, self.count)
        if large:
            size = _large(size, self.count, self._row_bytes())
        self._count_batches(size, limit, accumulate)
        self._split, self._shuffle = part is not None, shuffle
        self._map, self._augment, self._seed = map, augment, seed
        self._in_place = not (shuffle or self._split)
        self._order: tf.Tensor | None = None
        self._rows_in_order: np.ndarray | None = None
        self._order_of = 0

    def cursor(self, epoch: int, start: int) -> Any:
        """Return the epoch and the order of its rows; with an index these determine a batch.

        The order is computed once per epoch, outside the loop: TensorFlow's `index_shuffle` takes
        a quarter of a microsecond per row, half the time of a small step, and XLA does not have it.
        """
        if self._order is None or (self._shuffle and epoch != self._order_of):
            self._order_of = epoch
            self._order = tf.constant(self._order_in(epoch), tf.int64)
        return tf.constant(epoch, tf.int64), self._order

    def first(self) -> Any:
        """Gather the rows of the first batch."""
        (_, _, size), *_ = self.parts(0, 1)
        return self._gathered(self.cursor(0, 0), tf.constant(0, tf.int64), size)[1]

    def _opened(self, arrays: Any, name: str, held: dict[int, Any]) -> int:
        """Check and store what was given, and return its number of rows."""
        rows = check_rows(arrays, name)
        self._tensors = tf.nest.map_structure(lambda a: self._hold(a, held), arrays)
        return rows

    def _row_bytes(self) -> int:
        """Return the bytes of a row."""
        return row_bytes(tf.nest.flatten(self._tensors))

    def _hold(self, array: Any, held: dict[int, Any]) -> Any:
        """Return the stored form of an array, the same object for every set."""
        if id(array) not in held:
            held[id(array)] = as_tensor(array)
        return held[id(array)]

    def _gathered(self, cursor: Any, index: tf.Tensor, size: int | None) -> tuple[Any, Any]:
        epoch, order = cursor
        start = index * self.batch_size
        if self._in_place:
            return epoch, tf.nest.map_structure(lambda t: _slice(t, start, size), self._tensors)
        place = _slice(order, start, size)
        return epoch, tf.nest.map_structure(lambda t: tf.gather(t, place), self._tensors)

    @property
    def operations(self) -> set[str]:
        """The types of the TensorFlow operations that read a batch, if there is `augment`."""
        if self._augment is None:
            return set()
        graph = self._traced().graph.as_graph_def()
        inner = [node for function in graph.library.function for node in function.node_def]
        return {node.op for node in (*graph.node, *inner)}

    def _order_in(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch in order; empty if the arrays are read in place."""
        place = np.arange(0 if self._in_place else self._used)
        if self._shuffle:
            place = permutation(self.count, self._seed, epoch)[: self._used]
        if self._split:
            if self._rows_in_order is None:
                self._rows_in_order = permutation(self.rows, self._seed, _SPLIT)
            place = self._rows_in_order[place + self._first]
        return place


_SPLIT = 2**63  # no epoch has this number


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of `count` rows in an epoch, from the seed and the epoch alone."""
    key = np.array([seed, epoch], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


LARGE_ROWS, LARGE_BYTES = 512, 2**24


def row_bytes(tensors: list[Any]) -> int:
    """Return the bytes of a row of tensors, arrays or specs, whose first axis holds the rows."""
    return sum(tf.as_dtype(t.dtype).size * math.prod(t.shape[1:]) for t in tensors)


def _large(size: int, count: int, row: int) -> int:
    """Return the rows per evaluation batch; equal sizes avoid tracing a ragged batch too."""
    most = max(size, min(LARGE_ROWS, LARGE_BYTES // max(1, row)))
    return max(size, math.ceil(count / math.ceil(count / most)))


def _slice(tensor: tf.Tensor, start: tf.Tensor, size: int | None) -> tf.Tensor:
    rank = tensor.shape.rank
    return tf.slice(tensor, [start, *[0] * (rank - 1)], [size, *tensor.shape[1:]])


def check_rows(arrays: Any, name: str) -> int:
    """Return the number of rows of a nest of arrays, after checking that they can be a set."""
    where = f"data.{name}"
    flat = keras.tree.flatten_with_path(arrays) if arrays is not None else []
    leaves = [("/".join(map(str, path)), leaf) for path, leaf in flat]
    if not leaves:
        fix = "Give arrays of one length: (x, y), or a dict of them."
        raise UserError(f"the {name} set holds no arrays", where=where, fix=fix)
    for path, leaf in leaves:
        _refuse_kind(leaf, path or "it", name)
        if not np.ndim(leaf):
            raise UserError(
                f"{path or name} of the {name} set is not an array of rows",
                where=where,
                fix="Give NumPy arrays; convert lists with np.asarray.",
            )
    rows = {path or "array": len(leaf) for path, leaf in leaves}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{path}: {n:,}" for path, n in list(rows.items())[:6])
        counts += ", ..." if len(rows) > 6 else ""
        raise UserError(
            f"the arrays of the {name} set differ in their number of rows ({counts})",
            where=where,
            fix="Give every array one row for each example.",
        )
    for path, leaf in leaves:
        refuse_nan(leaf, f"the {name} set", where + (f" ({path})" if path else ""))
    return next(iter(rows.values()))


def _refuse_kind(leaf: Any, path: str, name: str) -> None:
    """Reject values that TensorFlow cannot store as rows, or that may change meanwhile."""
    fault, dtype = not_dense(leaf), getattr(leaf, "dtype", None)
    if fault:
        what, fix = fault
    elif isinstance(leaf, np.ma.MaskedArray):
        what = "a masked array, which would lose its mask"
        fix = "Give array.filled(0), and the mask as another array."
    elif dtype == np.longdouble or getattr(dtype, "fields", None):
        what = f"an array of {leaf.dtype}"
        fix = "Give numbers of at most 64 bits, and a structured array as a dict of its fields."
    elif isinstance(leaf, (tf.Variable, keras.Variable)):
        what, fix = "a variable", "Give its value: variable.numpy()."
    elif dtype == np.dtype(object):
        what = "an array of Python objects"
        fix = "Give numbers of one shape for every row: np.stack(rows), or pad them."
    elif getattr(dtype, "kind", "") in ("m", "M"):
        what, fix = "an array of dates or times", "Give numbers: array.astype('int64')."
    else:
        return
    raise UserError(f"{path} of the {name} set is {what}", where=f"data.{name}", fix=fix)


def as_tensor(array: Any) -> tf.Tensor:
    """Return an array as a tensor of the same dtype; Python floats become Keras's floatx."""
    if isinstance(array, (list, tuple, float)):
        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(keras.config.floatx())
    return tf.convert_to_tensor(array)
