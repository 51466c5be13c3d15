"""Batches that come one after another: `tf.data`, `PyDataset`, generators."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.data.exact import BeforeEpoch
from framework.data.source import Source, limited
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
            found = tf.nest.map_structure(lambda leaf: self.spec_of(leaf, whole=True), batch)
            raise UserError(
                f"{self.what} gives a batch of {describe(found)}, after one of {wanted}",
                where=self.where,
                fix=_way_out(first, specs, found),
            )
        return leaves

    def spec_of(self, leaf: Any, whole: bool = False) -> tf.TensorSpec:
        """Return the spec of a batch's leaf, any number of rows unless it is to be `whole`.

        Raises:
            UserError: It is no tensor.
        """
        if leaf is None or isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
            fix = "Leave it out: give x, or (x,)."
            if leaf is not None:
                fix = "Make it dense: batch.to_tensor(), tf.sparse.to_dense(batch)."
            what = "None" if leaf is None else f"a {type(leaf).__name__}"
            raise UserError(f"{self.what} gives {what} in a batch", where=self.where, fix=fix)
        tensor = tf.convert_to_tensor(leaf)
        shape = [None, *tensor.shape[1:]] if tensor.shape.rank and not whole else tensor.shape
        return tf.TensorSpec(shape, tensor.dtype)

    def specs(self, first: Any, signature: Any) -> list[tf.TensorSpec]:
        """Return the specs of a set's batches: as they are given, else those of the first batch.

        Raises:
            UserError: The first batch is not what the signature says.
        """
        found = tf.nest.map_structure(self.spec_of, first)
        if signature is None:
            return list(tf.nest.flatten(found))
        try:
            tf.nest.assert_same_structure(found, signature)
            specs = [tf.TensorSpec(s.shape, s.dtype) for s in tf.nest.flatten(signature)]
            fits = all(
                spec.dtype == leaf.dtype and spec.shape.is_compatible_with(leaf.shape)
                for spec, leaf in zip(specs, tf.nest.flatten(found), strict=True)
            )
        except (AttributeError, TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(
                f"{self.what} gives batches of {describe(found)}, not of Data's signature",
                where="data.signature",
                fix="Give the structure and types of a batch, as tf.TensorSpec(shape, dtype).",
            )
        return specs


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
        limit_name: The trainer's option that says so, for messages.
        accumulate: Put so many batches into one, whose gradient is taken a batch at a time.
        name: What to call it in messages: `train`, `val`, …
        before_epoch: Called with the number of an epoch before it is read.
        after_epoch: Called with the number of an epoch that is over.
        obstacle: Why it cannot be continued exactly, if so.
        restart: Begin anew where it would have to be continued in mid-epoch.
        endless: The dataset has no end: `limit` cuts it into epochs, each of which goes on where
            the one before ended.
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
        self._endless = endless
        self._map, self._augment, self._seed = map, augment, seed
        # What the compiled loop reads of it, so that every epoch augments with draws of its own.
        self._epoch_in_graph = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        if not endless:
            dataset = _limit(dataset, limit, limit_name, name)
        if accumulate > 1:
            with self.reading():
                self.micro_rows = _rows_of_a_batch(dataset, name)
            dataset = _together(dataset, self.micro_rows, accumulate, limit if endless else None)
        dataset = dataset.prefetch(tf.data.AUTOTUNE)  # whoever made it may have forgotten to
        self.steps = math.ceil(limit / accumulate) if endless else _length(dataset)
        if self.steps == 0:
            raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=_NO_BATCHES)
        self._dataset, self._restart = dataset, restart
        self._before_epoch, self._after_epoch = before_epoch, after_epoch
        self.obstacle = obstacle
        self._epoch, self._next = -1, 0
        self._iterator: Any = None
        self._refuse_composites()

    def cursor(self, epoch: int, start: int) -> Any:
        """Return an iterator that stands at `start`: the running one, where that is possible."""
        place = epoch * self.steps + start if self._endless and self.steps else start
        again = self._iterator is None or place < self._next
        if epoch != self._epoch or again:
            # One that was made only to trace the loop counts as a reading all the same.
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
        """Read the first batch with an iterator of its own."""
        with self.reading():
            return next(iter(self._dataset.take(1)), ())

    def finished(self, epoch: int) -> None:
        """Tell whoever makes the batches that an epoch is over, or an evaluation."""
        self._after_epoch(epoch)

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
        first = self._epoch * self.steps if self._endless and self.steps else 0
        self._next = first + stop

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

    def _refuse_composites(self) -> None:
        spec, kinds = self._dataset.element_spec, (tf.RaggedTensorSpec, tf.SparseTensorSpec)
        found = next((leaf for leaf in tf.nest.flatten(spec) if isinstance(leaf, kinds)), None)
        if found is None:
            return
        if self._map is not None:
            with user_code("Data.map"):
                mapped = tf.function(lambda *batch: self._map(batch[0]), autograph=False)
                leaves = tf.nest.flatten(mapped.get_concrete_function(spec).structured_outputs)
            if not any(isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)) for leaf in leaves):
                return
        raise UserError(
            f"{self._guard.what} gives a {type(found).__name__.removesuffix('Spec')} in a batch",
            where=self._guard.where,
            fix="Make it dense in dataset.map or Data(map=...): x.to_tensor(), "
            "tf.sparse.to_dense(x).",
        )


def never_ends(dataset: tf.data.Dataset) -> bool:
    """Tell whether a dataset is known to have no end."""
    return bool(int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY)


def _limit(dataset: tf.data.Dataset, limit: int | float, option: str, name: str) -> tf.data.Dataset:
    if isinstance(limit, int):
        return dataset.take(limit)
    if never_ends(dataset):
        raise UserError(
            f"the {name} set never ends",
            where=f"data.{name}",
            fix=f"Say how many batches to take: {option}=1000."
            if option
            else "Give one that does: dataset.take(1000).",
        )
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


def _together(
    dataset: tf.data.Dataset, rows: int, batches: int, limit: int | float | None
) -> tf.data.Dataset:
    """Put batches of so many rows together, never those of two epochs of an endless set."""
    if limit is None or int(limit) % batches == 0:
        return dataset.rebatch(rows * batches)

    def together(*epoch: Any) -> tf.data.Dataset:
        parts = epoch if len(epoch) > 1 else epoch[0]
        whole = parts if isinstance(parts, tf.data.Dataset) else tf.data.Dataset.zip(parts)
        return whole.rebatch(rows * batches)

    return dataset.window(int(limit), drop_remainder=True).flat_map(together)


def _rows_of_a_batch(dataset: tf.data.Dataset, name: str) -> int:
    """Return the rows of a set's batches, of which several are to be put together."""
    for batch in dataset.take(1):
        leaves = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(batch)]
        lengths = {int(leaf.shape[0]) if leaf.shape.rank else 0 for leaf in leaves}
        if 0 not in lengths and len(lengths) == 1:
            return lengths.pop()
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise UserError(
            f"batches of the {name} set cannot be put together: their tensors, {shapes}, have "
            "different numbers of rows",
            where="trainer.accumulate",
            fix="Give every tensor of a batch as many rows, adding what has none in Data(map=...), "
            "which sees the larger batch; or leave accumulate out and give larger batches.",
        )
    raise UserError(f"the {name} set has no batches", where=f"data.{name}", fix=_NO_BATCHES)


def _length(dataset: tf.data.Dataset) -> int | None:
    length = int(dataset.cardinality())
    return length if length >= 0 else None


def from_pydataset(
    source: keras.utils.PyDataset, guard: Guard, signature: Any = None
) -> tf.data.Dataset:
    """Read a `PyDataset` in its own order, with as many threads as it has workers."""
    with guard.blaming():
        batches = source.num_batches
    if batches is not None and batches < 1:
        raise UserError(f"{guard.what} has no batches", where=guard.where, fix=_NO_BATCHES)
    with guard.blaming():
        first = source[0]
        specs = guard.specs(first, signature)

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

    dataset = tf.data.Dataset.range(2**62 if batches is None else batches)
    if batches is None:
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
    return dataset.map(load, num_parallel_calls=max(1, source.workers)).prefetch(2)


def from_generator(
    make: Callable[[], Iterable[Any]], guard: Guard, signature: Any = None
) -> tf.data.Dataset:
    """Read what a generator function yields, calling it anew for every epoch.

    Args:
        make: It takes nothing; what it does with the epoch is the caller's concern.
        guard: Names it, should it fail.
        signature: See `Data`.
    """
    with guard.blaming():
        first = next(_iterator(make, guard), _END)
        if first is _END:
            raise UserError(f"{guard.what} yields no batch", where=guard.where, fix=_NO_BATCHES)
        specs = guard.specs(first, signature)
    spec = tf.nest.pack_sequence_as(first, specs)

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


def _way_out(first: Any, specs: list[tf.TensorSpec], found: Any) -> str:
    """Return what to do where a batch differs from the first: the signature of both, if any."""
    try:
        tf.nest.assert_same_structure(first, found)
        pairs = list(zip(specs, tf.nest.flatten(found), strict=True))
        if any(s.dtype != f.dtype or s.shape.rank != f.shape.rank for s, f in pairs):
            raise ValueError
    except (TypeError, ValueError):
        return "Give every batch the structure and types of the first."
    common = [
        f"tf.TensorSpec({_common(spec.shape, leaf.shape)}, tf.{spec.dtype.name})"
        for spec, leaf in pairs
    ]
    signature = str(tf.nest.map_structure(str, tf.nest.pack_sequence_as(first, common)))
    signature = signature.replace('"', "").replace("'", "") if len(common) > 1 else common[0]
    return f"Say which dimensions vary: Data(signature={signature})."


def _common(left: tf.TensorShape, right: tf.TensorShape) -> list[int | None]:
    return [a if a == b else None for a, b in zip(left, right, strict=True)]
