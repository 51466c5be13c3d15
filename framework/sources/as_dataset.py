"""The batches of a source, for what reads them outside of the loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from framework.sources.rows_axis import rows_open
from framework.sources.source import Source


def as_dataset(source: Source) -> tf.data.Dataset:
    """Return one epoch of a source as a dataset, which reads it again each time it is iterated.

    Args:
        source: What to read; `spec` tells its batches, the rows of which are left open.
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
