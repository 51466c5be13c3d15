"""Creates datasets that read a `PyDataset` or a generator function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from framework.errors import UserError
from framework.sources.streams import NO_BATCHES
from framework.sources.user_exceptions import Guard


def from_pydataset(
    source: keras.utils.PyDataset, guard: Guard, signature: Any = None
) -> tf.data.Dataset:
    """Return a dataset that reads a `PyDataset` in order, with one thread per worker."""
    with guard.blaming():
        batches = source.num_batches
    if batches is not None and batches < 1:
        raise UserError(f"{guard.what} has no batches", where=guard.where, fix=NO_BATCHES)
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
    """Return a dataset that reads a generator function; every epoch calls it again."""
    with guard.blaming():
        first = next(_iterator(make, guard), _END)
        if first is _END:
            raise UserError(f"{guard.what} yields no batch", where=guard.where, fix=NO_BATCHES)
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
            f"{guard.what} is a function that returns {type(made).__name__}, not an iterator",
            where=guard.where,
            fix="Yield batches in it, or return an iterator of batches.",
        )
    return iter(made)
