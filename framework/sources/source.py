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
    def spec(self, size: int | None = None) -> Any:
        """Return the nest of TensorSpecs of a batch of `size` rows, as a step receives it."""

    @abc.abstractmethod
    def first(self) -> Any:
        """Return the first batch, without `map` and `augment`; a stream is read again for it.

        Several workers compare it, to check that they read the same data.
        """

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
            batch = self.mapped(given[0])
            seed = tf.constant([self._seed, 0], tf.int64)
            return batch if self._augment is None else self.augmented(batch, self._augment, seed)

        return tf.function(finished, autograph=False)(self.first())

    @property
    def rereadable(self) -> bool:
        """Whether `first` leaves all later batches as they are."""
        return True

    def mapped(self, batch: Any) -> Any:
        """Apply `Data.map` to a batch."""
        if self._map is None:
            return batch
        with user_code("Data.map"):
            return _batch(self._map(batch), "Data.map")

    def augmented(self, batch: Any, augment: Callable[[Any, tf.Tensor], Any], seed: Any) -> Any:
        """Apply `Data.augment` to a batch."""
        with user_code("Data.augment"):
            return _batch(augment(batch, seed), "Data.augment")

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

    Args:
        batch: A nest of tensors.
        rows_axis: Axis of the rows; see `Data`.
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
