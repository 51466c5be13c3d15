"""Converts a source to a `tf.data.Dataset`, to read its batches outside the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from framework.sources.rows_axis import rows_open
from framework.sources.source import Source


def as_dataset(source: Source) -> tf.data.Dataset:
    """Return the first epoch of a source as a dataset; each iteration reads it again.

    The dataset's element spec leaves the number of rows open.
    """
    spec = rows_open(source.spec(), source.rows_axis)

    def batches() -> Iterator[tuple[Any, ...]]:
        for first, stop, size in source.parts(0, 2**62 if source.steps is None else source.steps):
            cursor = source.cursor(0, first)
            for index in range(first, stop):
                try:
                    with source.reading():
                        batch = source.read(cursor, tf.constant(index, tf.int64), size)
                except tf.errors.OutOfRangeError:
                    break
                yield tuple(tf.nest.flatten(batch))
        source.finished(0)

    signature = tuple(tf.nest.flatten(spec))
    flat = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return flat.map(lambda *leaves: tf.nest.pack_sequence_as(spec, leaves))
