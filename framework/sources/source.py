"""What a task trains on: `Data`, and the source that the engine reads batches from."""

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
    """Batches for the compiled loop.

    Attributes:
        steps: Batches in an epoch, or None while that is unknown.
        may_end: Whether an epoch may have fewer, as only reading it tells.
        rows_axis: Which axis of a batch's tensors holds its rows; see `Data`.
        micro_rows: Take a batch's gradient in pieces of so many rows. None: as a whole.
        resident: Whether its arrays are on the device, where the loop itself can gather from them.
        obstacle: Why a run cannot be continued on it exactly. None: it can.
    """

    steps: int | None
    may_end = False
    rows_axis: Any = 0
    micro_rows: int | None = None
    resident = False
    obstacle: str | None = None
    _map: Callable[[Any], Any] | None = None
    _waited: tf.Variable | None = None

    @property
    def operations(self) -> set[str]:
        """The kinds of TensorFlow's operations in `augment`, which vary batches inside the loop."""
        return set()

    def check(self) -> None:
        """Be called now and then where reading takes long; a trainer has signals raised here."""

    @abc.abstractmethod
    def cursor(self, epoch: int, start: int) -> Any:
        """Return what `read` needs to read `epoch` from batch `start` on: a tensor or iterator."""

    @abc.abstractmethod
    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return batch `index` of an epoch, in the graph."""

    @abc.abstractmethod
    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Cut batches [start, stop) into runs of one shape: (start, stop, rows of a batch)."""

    @abc.abstractmethod
    def spec(self, size: int | None = None) -> Any:
        """Return the nest of TensorSpecs of a batch of `size` rows, as a step gets it."""

    @abc.abstractmethod
    def first(self) -> Any:
        """Return the first batch, neither mapped nor augmented; a stream is read once more for it.

        Where several processes read the same data, they compare it.
        """

    def sample(self) -> Any:
        """Return the first batch as a step gets it, but for augmentation."""
        return self.mapped(self.first())

    def mapped(self, batch: Any) -> Any:
        """Return a batch as `Data.map` leaves it."""
        if self._map is None:
            return batch
        with user_code("Data.map"):
            return _batch(self._map(batch), "Data.map")

    def augmented(self, batch: Any, augment: Callable[[Any, tf.Tensor], Any], seed: Any) -> Any:
        """Return a batch as `Data.augment` leaves it."""
        with user_code("Data.augment"):
            return _batch(augment(batch, seed), "Data.augment")

    def taken(self, iterator: Any, *, optional: bool = False) -> Any:
        """Return an iterator's next batch, in the graph, as an optional if it may have none."""
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
        """Have the steps that are compiled from now on measure how long they wait for a batch."""
        self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="waited")

    def waited(self) -> float:
        """Return the seconds that steps have waited since this was last asked."""
        if self._waited is None:
            return 0.0
        seconds = float(self._waited.numpy())
        self._waited.assign(0.0)
        return seconds

    def finish(self, batch: Any, index: tf.Tensor) -> Any:
        """Return a batch that the loop took from an iterator itself, mapped and augmented."""
        return batch

    def moved(self, stop: int) -> None:
        """Note that the batches before `stop` have been read."""

    def renew(self, epoch: int) -> bool:
        """Read from the top where an epoch has no batch; tell whether there is one to hope for."""
        return False

    def finished(self, epoch: int) -> None:
        """Note that an epoch is over, or an evaluation."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say what the user's own code raised, if it fails while the body reads batches."""
        yield


def _batch(made: Any, by: str) -> Any:
    if made is None:
        raise UserError(f"{by} returned None", where=by, fix="Return the batch from it.")
    return made


def limited(total: int, limit: int | float) -> int:
    """Return how many of `total` batches a limit leaves: a count, or a fraction rounded up.

    Example:
        >>> limited(1563, 100), limited(1563, 0.1), limited(1563, 1.0)
        (100, 157, 1563)
    """
    return min(total, limit) if isinstance(limit, int) else math.ceil(exact(limit) * total)


def batch_rows(batch: Any, rows_axis: Any = 0) -> Any:
    """Return the number of examples in a batch: the length of its first tensor that has one.

    Args:
        batch: A nest of tensors.
        rows_axis: Which axis holds the rows; see `Data`.

    Where the length of some is fixed and that of others is not, as in a stream with a ragged end,
    it is that of the first whose is not.
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
