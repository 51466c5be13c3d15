"""Batches that come one after another: `tf.data`, `PyDataset`, generators."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.data.exact import BeforeEpoch
from framework.data.source import Source, batch_rows, limited
from framework.engine.build import describe, user_code
from framework.errors import UserError

_NO_BATCHES = "Give at least one; look at what selects them, such as a filter or drop_remainder."
_HEED = 0.25  # seconds of reading after which to look at signals


class Guard:
    """Keeps what the user's code raises on TensorFlow's threads, where an exception is lost.

    Example:
        >>> guard = Guard("the train generator", "train")
        >>> with guard.retold():         # on the host: raises what was noted, for TensorFlow's
        ...     read_from_tensorflow()   # on its thread: with guard.noting(): batch = next(user)

    Args:
        what: What to call that code in messages.
        name: The set's name: `train`, `val`, …
    """

    def __init__(self, what: str, name: str) -> None:
        self.what, self.where = what, f"data.{name}"
        self._noted: UserError | None = None

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Turn an exception into a `UserError` that names the set and the user's line."""
        try:
            with user_code(self.where):
                yield
        except UserError as error:
            if error.__cause__ is None:
                raise  # the user's own, or ours
            what = f"{self.what} failed: {error.what}"
            raise UserError(what, where=error.where, fix=error.fix) from error.__cause__

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Do the same, and keep it for `retold`."""
        try:
            with self.blaming():
                yield
        except UserError as error:
            self._noted = error
            raise

    @contextmanager
    def retold(self) -> Iterator[None]:
        """Raise what was noted in the place of what TensorFlow makes of it."""
        try:
            yield
        except tf.errors.OpError:
            noted, self._noted = self._noted, None
            if noted is None:
                raise
            raise noted from noted.__cause__

    def check(self, batch: Any, first: Any, specs: list[tf.TensorSpec]) -> list[Any]:
        """Return the leaves of a batch that is built like the first one, else refuse it."""
        try:
            tf.nest.assert_same_structure(first, batch)
            leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(batch)]
            same = all(
                spec.shape.is_compatible_with(leaf.shape)
                for leaf, spec in zip(leaves, specs, strict=True)
            )
        except (TypeError, ValueError):
            same = False
        if not same:
            wanted = describe(tf.nest.pack_sequence_as(first, specs))
            found = tf.nest.map_structure(lambda leaf: _spec_of(leaf, whole=True), batch)
            raise UserError(
                f"{self.what} gives a batch of {describe(found)}, after one of {wanted}",
                where=self.where,
                fix="Give every batch the structure and shapes of the first; its rows may differ.",
            )
        return leaves


class StreamSource(Source):
    """Batches in the order that a `tf.data.Dataset` gives them.

    It continues in mid-epoch by reading up to there, without training.

    Example:
        >>> StreamSource(tf.data.Dataset.range(10).batch(4)).steps
        3

    Args:
        dataset: A dataset of batches.
        map: See `Data`.
        augment: See `Data`.
        seed: Seed of augmentation.
        limit: Batches of an epoch: a count or a fraction. Default: all.
        accumulate: Put so many batches into one, whose gradient is taken a batch at a time.
        name: What to call it in messages: `train`, `val`, …
        before_epoch: Called with the number of an epoch before it is read.
        obstacle: Why it cannot be continued exactly, if so.
        restart: Begin anew where it would have to be continued in mid-epoch.
        guard: Of the user's code that the dataset calls.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        *,
        map: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, tf.Tensor], Any] | None = None,
        seed: int = 0,
        limit: int | float = 1.0,
        accumulate: int = 1,
        name: str = "data",
        before_epoch: BeforeEpoch = lambda *_: None,
        obstacle: str | None = None,
        restart: bool = False,
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard or Guard(f"the {name} set", name)
        dataset = _limit(dataset, limit, name)
        if accumulate > 1:
            with self.reading():
                _refuse_leaves_without_rows(dataset, name)
            self.micro_rows = _rows_of_a_batch(dataset, name)
            dataset = dataset.rebatch(self.micro_rows * accumulate)
        dataset = dataset.prefetch(tf.data.AUTOTUNE)  # whoever made it may have forgotten to
        self.steps = _length(dataset)
        if self.steps == 0:
            raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=_NO_BATCHES)
        self._dataset, self._before_epoch, self._restart = dataset, before_epoch, restart
        self.obstacle = obstacle
        self._map, self._augment, self._seed = map, augment, seed
        self._epoch, self._next, self._iterator = -1, 0, None
        # What the compiled loop reads of it, so that every epoch augments with draws of its own.
        self._epoch_in_graph = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")

    def cursor(self, epoch: int, start: int) -> Any:
        """Return an iterator that stands at `start`: the running one, where that is possible."""
        if epoch != self._epoch or start < self._next:
            # One that was made only to trace the loop counts as a reading all the same.
            unread = None if self._next else self._iterator
            with self.reading():
                self._before_epoch(epoch, unread, self._dataset, self.check)
            self._iterator = iter(self._dataset)
            self._epoch, self._next = epoch, 0
            self._epoch_in_graph.assign(epoch)
        if self._next < start and not self._restart:
            self._read_past(start - self._next)
        self._next = start
        return self._iterator

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
                if time.monotonic() - began < _HEED:
                    count *= 2
                self.check()
        except tf.errors.OutOfRangeError:
            raise UserError(
                f"the run is to go on after batch {self._next + batches:,} of an epoch, and the "
                "data end sooner",
                where=self._guard.where,
                fix="Continue with the same data, or begin anew in another run_dir.",
            ) from None

    def moved(self, stop: int) -> None:
        """Note where the iterator stands after a stretch."""
        self._next = stop

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say what the user's own code raised, if it fails while the body reads batches."""
        with self._guard.retold():
            yield

    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Leave the shapes to the dataset."""
        return [(start, stop, None)]

    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return the iterator's next batch."""
        return self.finish(self.taken(cursor), index)

    def finish(self, batch: Any, index: tf.Tensor) -> Any:
        """Map and augment a batch, in the graph."""
        if self._map:
            batch = self._map(batch)
        if self._augment:
            step = self._epoch_in_graph * 2**32 + index
            batch = self._augment(batch, tf.stack([tf.constant(self._seed, tf.int64), step]))
        return batch

    def spec(self, size: int | None = None) -> Any:
        """Trace `finish` once, without running it."""
        finish = tf.function(
            lambda *batch: self.finish(batch[0], tf.constant(0, tf.int64)), autograph=False
        )
        outputs = finish.get_concrete_function(self._dataset.element_spec).structured_outputs
        return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), outputs)


def _limit(dataset: tf.data.Dataset, limit: int | float, name: str) -> tf.data.Dataset:
    if isinstance(limit, int):
        return dataset.take(limit)
    length = (
        _length(dataset) if int(dataset.cardinality()) != tf.data.INFINITE_CARDINALITY else None
    )
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise UserError(
            f"the {name} set never ends",
            where=f"data.{name}",
            fix="Give a part of it: dataset.take(100)."
            if name == "predict"
            else f"Say how many batches make an epoch: limit_{name}_batches=1000.",
        )
    if limit == 1.0:
        return dataset
    if length is None:
        raise UserError(
            f"limit_{name}_batches={limit} is a fraction of a set of unknown length",
            where=f"trainer.limit_{name}_batches",
            fix="Give a count of batches.",
        )
    return dataset.take(limited(length, limit))


def _refuse_leaves_without_rows(dataset: tf.data.Dataset, name: str) -> None:
    shapes = [spec.shape for spec in tf.nest.flatten(dataset.element_spec)]
    lengths = {shape[0] if shape.rank else 0 for shape in shapes if shape.rank is not None}
    if 0 in lengths or len(lengths) > 1:
        raise UserError(
            f"batches of the {name} set cannot be put together: not all of their tensors have rows",
            where="trainer.accumulate",
            fix="Add what has none in Data(map=...), which sees the larger batch.",
        )


def _rows_of_a_batch(dataset: tf.data.Dataset, name: str) -> int:
    for batch in dataset.take(1):
        return int(batch_rows(batch))
    raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=_NO_BATCHES)


def _length(dataset: tf.data.Dataset) -> int | None:
    length = int(dataset.cardinality())
    return length if length >= 0 else None


def from_pydataset(source: keras.utils.PyDataset, guard: Guard) -> tf.data.Dataset:
    """Read a `PyDataset` in its own order, with as many threads as it has workers."""
    with guard.blaming():
        batches = source.num_batches
    if batches is None:
        raise UserError(
            f"{guard.what} never ends",
            where=guard.where,
            fix="Give it a __len__: the number of batches in an epoch.",
        )
    if batches < 1:
        raise UserError(f"{guard.what} has no batches", where=guard.where, fix=_NO_BATCHES)
    with guard.blaming():
        first = source[0]
        specs = [_spec_of(leaf) for leaf in tf.nest.flatten(first)]

    def load(index: tf.Tensor) -> Any:
        def item(i: Any) -> list[Any]:
            with guard.noting():
                leaves = guard.check(source[int(i)], first, specs)
                return [
                    tf.convert_to_tensor(x, s.dtype) for x, s in zip(leaves, specs, strict=True)
                ]

        leaves = tf.py_function(item, [index], [s.dtype for s in specs])
        for leaf, spec in zip(leaves, specs, strict=True):
            leaf.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(first, leaves)

    dataset = tf.data.Dataset.range(batches)
    return dataset.map(load, num_parallel_calls=max(1, source.workers)).prefetch(2)


def from_generator(make: Callable[[], Iterable[Any]], guard: Guard) -> tf.data.Dataset:
    """Read what a generator function yields, calling it anew for every epoch.

    Args:
        make: It takes nothing; what it does with the epoch is the caller's concern.
        guard: Names it, should it fail.
    """
    with guard.blaming():
        first = next(_iterator(make, guard), _END)
        if first is _END:
            raise UserError(f"{guard.what} yields no batch", where=guard.where, fix=_NO_BATCHES)
        spec = tf.nest.map_structure(_spec_of, first)
    specs = tf.nest.flatten(spec)

    def batches() -> Iterator[Any]:
        with guard.noting():
            iterator = _iterator(make, guard)
        while True:
            with guard.noting():
                batch = next(iterator, _END)
                if batch is _END:
                    return
                leaves = guard.check(batch, first, specs)
            yield tf.nest.pack_sequence_as(spec, leaves)

    return tf.data.Dataset.from_generator(batches, output_signature=spec).prefetch(2)


_END: Any = object()


def _iterator(make: Callable[[], Iterable[Any]], guard: Guard) -> Iterator[Any]:
    made = make()
    if not isinstance(made, Iterable):
        raise UserError(
            f"{guard.what} is a function that returns {type(made).__name__}, no iterator",
            where=guard.where,
            fix="Yield batches in it, or return an iterator of them.",
        )
    return iter(made)


def _spec_of(leaf: Any, whole: bool = False) -> tf.TensorSpec:
    tensor = tf.convert_to_tensor(leaf)
    shape = [None, *tensor.shape[1:]] if tensor.shape.rank and not whole else tensor.shape
    return tf.TensorSpec(shape, tensor.dtype)
