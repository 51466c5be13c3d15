"""The interface from which the compiled loop reads batches."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.core.fractions import exact
from framework.core.user_code import user_code
from framework.errors import UserError
from framework.sources.rows_axis import map_rows


class Source(abc.ABC):
    """Provide batches for the compiled loop.

    The constructors of its subclasses have some arguments in common: `map` and `augment`, as in
    `Data`; `seed`, of augmentation and any order; `limit`, the batches per epoch as a count or a
    fraction; `accumulate`, how many batches to join into one, whose gradient is then computed
    batch by batch; and `name`, that of the set in messages: `train`, `val`, …

    Attributes:
        steps: Batches per epoch, or None while that is unknown.
        may_end: Whether an epoch may turn out to have fewer batches when it is read.
        rows_axis: Axis of the rows in a batch's tensors; see `Data`.
        micro_rows: Compute a batch's gradient in pieces of this many rows. None: in one piece.
        resident: Whether its arrays are on the device, so that the loop can gather from them.
        obstacle: Why a run cannot resume exactly with this source. None: it can.
    """

    steps: int | None
    may_end = False
    rows_axis: Any = 0
    micro_rows: int | None = None
    resident = False
    obstacle: str | None = None
    _map: Callable[[Any], Any] | None = None
    _augment: Callable[[Any, tf.Tensor], Any] | None = None
    _seed = 0
    _waited: tf.Variable | None = None

    @property
    def operations(self) -> set[str]:
        """The types of the TensorFlow operations in `augment`, which runs inside the loop."""
        return set()

    def check(self) -> None:
        """Called regularly during long reads; the trainer handles signals here."""

    @abc.abstractmethod
    def cursor(self, epoch: int, start: int) -> Any:
        """Return what `read` needs to read `epoch` from batch `start`: tensors or an iterator."""

    @abc.abstractmethod
    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return batch `index` of an epoch, in the graph."""

    @abc.abstractmethod
    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Split batches [start, stop) into parts of equal shape: (start, stop, rows per batch)."""

    @abc.abstractmethod
    def _traced(self, size: int | None = None) -> Any:
        """Trace how a batch of `size` rows is read, without reading it."""

    def spec(self, size: int | None = None) -> Any:
        """Return the nest of TensorSpecs of a batch of `size` rows, as a step receives it."""
        outputs = self._traced(size).structured_outputs
        return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), outputs)

    @abc.abstractmethod
    def first(self) -> Any:
        """Return the first batch, without `map` and `augment`; a stream is read again for it.

        Several workers compare it, to check that they read the same data.
        """

    def raw_spec(self) -> Any:
        """Return the nest of TensorSpecs of a batch without `map` and `augment`."""
        return tf.nest.map_structure(tf.TensorSpec.from_tensor, self.first())

    def sample(self) -> Any:
        """Return the first batch as a step receives it, but not augmented."""
        return self.mapped(self.first())

    def opening(self) -> Any:
        """Return the first batch of a run as the training step receives it.

        Returns:
            The batch; None where reading it apart would change what the run reads afterwards.
        """
        if not self.rereadable:
            return None

        def finished(*given: Any) -> Any:  # compiled, so that it draws nothing outside
            return self._prepared(given[0], lambda: tf.constant(0, tf.int64))

        return tf.function(finished, autograph=False)(self.first())

    @property
    def rereadable(self) -> bool:
        """Whether `first` leaves all later batches as they are."""
        return True

    @property
    def maps(self) -> bool:
        """Whether there is a `map`."""
        return self._map is not None

    def mapped(self, batch: Any) -> Any:
        """Apply `Data.map` to a batch."""
        if self._map is None:
            return batch
        with user_code("Data.map"):
            return _batch(self._map(batch), "Data.map")

    def _prepared(self, batch: Any, number: Callable[[], tf.Tensor]) -> Any:
        """Map a batch, and augment it by its number, which no other batch of the run has."""
        batch = self.mapped(batch)
        if self._augment is None:
            return batch
        step = number()
        seed = tf.stack([tf.constant(self._seed, tf.int64), step])
        with user_code("Data.augment"):
            return _batch(self._augment(batch, seed), "Data.augment")

    def taken(self, iterator: Any, *, optional: bool = False) -> Any:
        """Return the next batch of an iterator in the graph, as an optional if it may end."""
        take = iterator.get_next_as_optional if optional else iterator.get_next
        if self._waited is None:
            return take()
        before = tf.timestamp()
        with tf.control_dependencies([before]):
            batch = take()
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            self._waited.assign_add(tf.timestamp() - before)
        return batch

    def time_waits(self) -> None:
        """Measure how long steps compiled from now on wait for their batches."""
        self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="waited")

    def waited(self) -> float:
        """Return the seconds that steps have waited since the last call."""
        if self._waited is None:
            return 0.0
        seconds = float(self._waited.numpy())
        self._waited.assign(0.0)
        return seconds

    def finish(self, batch: Any, index: tf.Tensor) -> Any:
        """Map and augment a batch that the loop took from the iterator itself."""
        return batch

    def moved(self, stop: int) -> None:
        """Record that the batches before `stop` have been read."""

    def renew(self, epoch: int) -> bool:
        """Restart the data if an epoch found no batch; return whether there may be one now."""
        return False

    def finished(self, epoch: int) -> None:
        """Record that an epoch or an evaluation has ended."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Report exceptions that user code raises while the body reads batches."""
        yield


class RowSource(Source):
    """A source that knows its rows, and finds any batch of an epoch at once.

    Attributes:
        count: Rows of an epoch, before a limit.
        batch_size: Rows per step; the last one of an epoch may have fewer.
    """

    count: int
    batch_size: int
    steps: int

    def _count_batches(self, size: int, limit: int | float, accumulate: int) -> None:
        """Set how many rows an epoch and a step have, from those of one batch."""
        self._used = min(self.count, size * limited(math.ceil(self.count / size), limit))
        self.batch_size = min(size * accumulate, self._used)
        self.micro_rows = size if accumulate > 1 else None
        self.steps = math.ceil(self._used / self.batch_size)

    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Separate the ragged last batch, which has a different shape."""
        whole = self._used // self.batch_size
        runs = [(start, min(stop, whole), self.batch_size)]
        runs.append(
            (max(start, whole), min(stop, self.steps), self._used - whole * self.batch_size)
        )
        return [run for run in runs if run[0] < run[1]]

    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return batch `index` of an epoch, in the graph."""
        epoch, batch = self._gathered(cursor, index, size)
        # Count batches across epochs, so that no two of them share random numbers.
        per_epoch = math.ceil(self.count / self.batch_size)
        return self._prepared(batch, lambda: epoch * per_epoch + index)

    @abc.abstractmethod
    def _gathered(self, cursor: Any, index: tf.Tensor, size: int | None) -> tuple[Any, Any]:
        """Return the epoch and the rows of a batch, in the graph."""

    def _traced(self, size: int | None = None) -> Any:
        cursor, size = self.cursor(0, 0), size or self.batch_size
        read = tf.function(
            lambda: self.read(cursor, tf.constant(0, tf.int64), size), autograph=False
        )
        return read.get_concrete_function()


def _batch(made: Any, by: str) -> Any:
    if made is None:
        raise UserError(f"{by} returned None", where=by, fix="Return the batch from it.")
    return made


def limited(total: int, limit: int | float) -> int:
    """Return how many of `total` batches a limit allows: a count, or a fraction rounded up.

    Example:
        >>> limited(1563, 100), limited(1563, 0.1), limited(1563, 1.0)
        (100, 157, 1563)
    """
    return min(total, limit) if isinstance(limit, int) else math.ceil(exact(limit) * total)


def batch_rows(batch: Any, rows_axis: Any = 0) -> Any:
    """Return the number of examples in a batch: the length of its first tensor with rows.

    If some tensors have a static length and others do not, as in a stream with a ragged last
    batch, it is the length of the first tensor without a static one.
    """
    found: list[tuple[int | None, tf.Tensor, int]] = []

    def note(leaf: Any, axis: int) -> Any:
        tensor = tf.convert_to_tensor(leaf)
        found.append((tensor.shape[axis] if tensor.shape.rank else None, tensor, axis))
        return leaf

    map_rows(note, batch, rows_axis)
    if not found:
        return 1
    static, tensor, axis = min(found, key=lambda each: each[0] is not None)
    return static if static is not None else tf.shape(tensor, tf.int64)[axis]
