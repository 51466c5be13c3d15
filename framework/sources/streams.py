"""Reads batches sequentially from `tf.data`, a `PyDataset` or a generator."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.compat import dataset_inputs
from framework.core.user_code import user_code
from framework.errors import UserError
from framework.sources.can_resume import BeforeEpoch, shuffles
from framework.sources.source import Source, limited
from framework.sources.user_exceptions import Guard, not_dense

NO_BATCHES = "Give at least one; check what removes them, such as a filter or drop_remainder."
_SHORT = (
    "%s ended after %s of %s steps: this epoch is shorter, and the next one reads it from the start"
)
_log = logging.getLogger("framework")
_CHECK_EVERY = 0.25  # seconds of reading between two checks for signals


class StreamSource(Source):
    """Read batches in the order of a `tf.data.Dataset`.

    To resume in mid-epoch, it reads and discards the earlier batches of the epoch.

    Example:
        >>> StreamSource(tf.data.Dataset.range(10).batch(4)).steps
        3

    Args:
        dataset: A dataset of batches.
        limit_name: The trainer's option for the limit, for messages.
        before_epoch: Called before an epoch is read; see `BeforeEpoch`.
        after_epoch: Called with the number of an epoch after it has ended.
        obstacle: Why a run cannot resume exactly with this dataset, if so.
        restart: When resuming in mid-epoch, read the dataset from its start instead.
        endless: The dataset is endless, or may be: `limit` splits it into epochs, each of which
            continues where the previous one ended. If the data ends, the epoch ends too, and the
            next epoch reads the data from the start.
        guard: The guard of user code that the dataset calls.
        map, augment, seed, limit, accumulate, name: See `Source`.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        map: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, tf.Tensor], Any] | None = None,
        seed: int = 0,
        limit: int | float = 1.0,
        limit_name: str = "",
        accumulate: int = 1,
        name: str = "data",
        before_epoch: BeforeEpoch = lambda *_: None,
        after_epoch: Callable[[int], None] = lambda _: None,
        obstacle: str | None = None,
        restart: bool = False,
        endless: bool = False,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard(f"the {name} set", name)
        self._name, self._endless = name, endless
        self.may_end = endless and not never_ends(dataset)
        self._map, self._augment, self._seed = map, augment, seed
        # The compiled loop reads it, so that every epoch augments with different random numbers.
        self._epoch_in_graph = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        if not endless:
            dataset = _limit(dataset, limit, limit_name, name)
        if accumulate > 1:
            with self.reading():
                self.micro_rows = _rows_of_a_batch(dataset, name)
            dataset = _joined(
                _checked(dataset), self.micro_rows, accumulate, limit if endless else None
            )
        dataset = dataset.prefetch(tf.data.AUTOTUNE)  # the user may not have added it
        self.steps = math.ceil(limit / accumulate) if endless else _length(dataset)
        if self.steps == 0:
            raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=NO_BATCHES)
        self._dataset, self._restart = dataset, restart
        self._before_epoch, self._after_epoch = before_epoch, after_epoch
        self.obstacle = obstacle
        self._epoch, self._next = -1, 0
        self._top = 0  # planned number of batches before the first epoch of the iterator
        self._iterator: Any = None
        self._refuse_composites()

    def cursor(self, epoch: int, start: int) -> Any:
        """Return an iterator at batch `start`: the current one, if possible."""
        place = self._place(epoch, start)
        again = self._iterator is None or place < self._next
        if epoch != self._epoch or again:
            # An iterator that was created only to trace the loop counts as an iteration too.
            unread = None if self._next else self._iterator
            with self.reading():
                self._before_epoch(epoch, unread, self._dataset, self.check)
            if again or not self._endless:
                self._iterator, self._next = iter(self._dataset), 0
            self._epoch = epoch
            self._epoch_in_graph.assign(epoch)
        if self._next < place and not self._restart:
            self._read_past(place - self._next)
        self._next = place
        return self._iterator

    def first(self) -> Any:
        with self.reading():
            return next(iter(self._dataset.take(1)), ())

    @property
    def rereadable(self) -> bool:
        """Whether another iterator leaves the order of later ones as it is."""
        return self.obstacle is None and not shuffles(self._dataset)

    def _place(self, epoch: int, batch: int) -> int:
        """Return the position of an epoch's batch in the iterator."""
        if not self._endless or self.steps is None:
            return batch
        return epoch * self.steps + batch - self._top

    def renew(self, epoch: int) -> bool:
        """Restart the data if it ended exactly at the end of the previous epoch."""
        spent = self.may_end and self._place(epoch, 0) > 0
        if spent:
            self._begin_with(epoch)
        return spent

    def _begin_with(self, epoch: int) -> None:
        self._iterator, self._top = None, epoch * (self.steps or 0)

    def finished(self, epoch: int) -> None:
        """Call `after_epoch`, and restart data that has ended within the epoch."""
        self._after_epoch(epoch)
        if self.may_end and self._next < self._place(epoch + 1, 0):
            if not self._top:
                _log.warning(
                    _SHORT, self._guard.what, self._next - self._place(epoch, 0), self.steps
                )
            self._begin_with(epoch + 1)

    def _read_past(self, batches: int) -> None:
        def read(iterator: Any, count: tf.Tensor) -> Any:
            def body(i: tf.Tensor) -> tf.Tensor:
                with tf.control_dependencies(tf.nest.flatten(iterator.get_next())):
                    return i + 1

            return tf.while_loop(lambda i: i < count, body, [tf.constant(0, tf.int64)])

        run, left, count = tf.function(read, autograph=False), batches, 1
        try:
            while left:
                began = time.monotonic()
                with self.reading():
                    run(self._iterator, tf.constant(min(count, left), tf.int64))
                left -= min(count, left)
                if time.monotonic() - began < _CHECK_EVERY:
                    count *= 2
                self.check()
        except tf.errors.OutOfRangeError:
            raise UserError(
                f"the run resumes after batch {self._next + batches:,} of an epoch, but the data "
                "has fewer batches",
                where=self._guard.where,
                fix="Resume with the same data, or start again in another run_dir.",
            ) from None

    def moved(self, stop: int) -> None:
        self._next = self._place(self._epoch, stop)

    @contextmanager
    def reading(self) -> Iterator[None]:
        try:
            with self._guard.retold():
                yield
        except tf.errors.InvalidArgumentError as error:
            if _UNEVEN not in str(error):
                raise
            raise _cannot_join(self._name, _UNEVEN) from None

    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        return [(start, stop, None)]

    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        return self.finish(self.taken(cursor), index)

    def finish(self, batch: Any, index: tf.Tensor) -> Any:
        """Map and augment a batch, in the graph."""
        return self._prepared(batch, lambda: self._epoch_in_graph * 2**32 + index)

    def _traced(self, size: int | None = None) -> Any:
        finish = tf.function(
            lambda *batch: self.finish(batch[0], tf.constant(0, tf.int64)), autograph=False
        )
        return finish.get_concrete_function(self._dataset.element_spec)

    def _refuse_composites(self) -> None:
        spec = self._dataset.element_spec
        odd = [each for each in tf.nest.flatten(spec) if not isinstance(each, tf.TensorSpec)]
        if not odd:
            return
        if self._map is not None:
            with user_code("Data.map"):
                mapped = tf.function(lambda *batch: self._map(batch[0]), autograph=False)
                leaves = tf.nest.flatten(mapped.get_concrete_function(spec).structured_outputs)
            if not any(map(not_dense, leaves)):
                return
        what, fix = "None", "Leave it out in dataset.map or Data(map=...): give x, or (x,)."
        if not isinstance(odd[0], tf.NoneTensorSpec):
            what = f"a {type(odd[0]).__name__.removesuffix('Spec')}"
            fix = "Make it dense in Data(map=...): x.to_tensor(), tf.sparse.to_dense(x)."
        raise UserError(
            f"{self._guard.what} returns {what} in a batch", where=self._guard.where, fix=fix
        )


def never_ends(dataset: tf.data.Dataset) -> bool:
    """Return whether a dataset is known to be endless, from its cardinality or its inputs."""
    cardinality = int(dataset.cardinality())
    if cardinality != tf.data.UNKNOWN_CARDINALITY:
        return bool(cardinality == tf.data.INFINITE_CARDINALITY)
    kind, inputs = type(dataset).__name__, dataset_inputs(dataset)
    if not inputs or kind.startswith(_ENDING):
        return False
    every = all if kind.startswith(_AS_LONG_AS_THE_SHORTEST) else any
    return every(map(never_ends, inputs))


_ENDING = "_Take"  # and _TakeWhile
_AS_LONG_AS_THE_SHORTEST = ("_Zip", "_DirectedInterleave")


def _limit(dataset: tf.data.Dataset, limit: int | float, option: str, name: str) -> tf.data.Dataset:
    if isinstance(limit, int):
        return dataset.take(limit)
    if never_ends(dataset):
        fix = f"Set how many batches to take: {option}=1000." if option else ""
        fix = fix or "Limit it: dataset.take(1000)."
        raise UserError(f"the {name} set never ends", where=f"data.{name}", fix=fix)
    if limit == 1.0:
        return dataset
    length = _length(dataset)
    if length is None:
        raise UserError(
            f"{option}={limit} is a fraction of a set of unknown length",
            where=f"trainer.{option}",
            fix="Give a count of batches.",
        )
    return dataset.take(limited(length, limit))


def _joined(
    dataset: tf.data.Dataset, rows: int, batches: int, limit: int | float | None
) -> tf.data.Dataset:
    """Join batches of `rows` rows, but never batches of two epochs of an endless set."""
    if limit is None or int(limit) % batches == 0:
        return dataset.rebatch(rows * batches)

    def together(*epoch: Any) -> tf.data.Dataset:
        parts = epoch if isinstance(dataset.element_spec, tuple) else epoch[0]
        whole = tf.data.Dataset.zip(parts)
        return whole.rebatch(rows * batches)

    return dataset.window(int(limit)).flat_map(together)


def _rows_of_a_batch(dataset: tf.data.Dataset, name: str) -> int:
    """Return the rows per batch of a set, and check that its batches can be joined."""
    specs = tf.nest.flatten(dataset.element_spec)
    if not all(spec.shape[1:].is_fully_defined() for spec in specs if spec.shape.rank != 0):
        fix = "Pad them to one width; if they have it already, use tf.ensure_shape in dataset.map"
        raise _cannot_join(name, "their widths vary", fix)
    for batch in dataset.take(1):
        leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(batch)]
        lengths = {int(leaf.shape[0]) if leaf.shape.rank else 0 for leaf in leaves}
        if 0 not in lengths and len(lengths) == 1:
            return lengths.pop()
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise _cannot_join(name, f"{_UNEVEN}: {shapes}")
    raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=NO_BATCHES)


_UNEVEN = "the tensors of one have different numbers of rows"
_EVEN = (
    "Give every tensor of a batch the same number of rows, and add tensors without rows in "
    "Data(map=...), which receives the joined batch"
)


def _cannot_join(name: str, why: str, fix: str = _EVEN) -> UserError:
    return UserError(
        f"batches of the {name} set cannot be joined: {why}",
        where="trainer.accumulate",
        fix=f"{fix}; or leave accumulate out and give larger batches.",
    )


def _checked(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Check every batch while it is read: all its tensors must have the same number of rows."""

    def check(*parts: Any) -> Any:
        leaves = tf.nest.flatten(parts)
        rows = [tf.shape(leaf, tf.int64)[0] for leaf in leaves]
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.equal(each, rows[0]), [_UNEVEN]) for each in rows[1:]]
        ):
            leaves = [tf.identity(leaf) for leaf in leaves]
        return tf.nest.pack_sequence_as(dataset.element_spec, leaves)

    return dataset.map(check)


def _length(dataset: tf.data.Dataset) -> int | None:
    length = int(dataset.cardinality())
    return length if length >= 0 else None
