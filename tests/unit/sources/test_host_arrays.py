"""Arrays that stay off the device give the batches of those on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.sources.arrays import ArraySource
from framework.sources.host_arrays import HostArraySource


def batches(source: ArraySource, epoch: int, start: int) -> list[Any]:
    found = []
    for first, last, size in source.parts(start, source.steps):
        cursor = source.cursor(epoch, first)
        for index in range(first, last):
            found.append(source.read(cursor, tf.constant(index, tf.int64), size))
        source.moved(last)
    return [np.asarray(leaf) for batch in found for leaf in tf.nest.flatten(batch)]


@settings(max_examples=25)
@given(
    rows=st.integers(1, 40),
    size=st.integers(1, 12),
    shuffle=st.booleans(),
    split=st.booleans(),
    accumulate=st.sampled_from([1, 3]),
    limit=st.sampled_from([1.0, 0.5, 2]),
    epoch=st.integers(0, 2),
    data=st.data(),
)
def test_the_same_batches_from_any_place(
    rows: int,
    size: int,
    shuffle: bool,
    split: bool,
    accumulate: int,
    limit: float,
    epoch: int,
    data: st.DataObject,
) -> None:
    arrays = {"x": np.arange(rows * 6, dtype="f4").reshape(rows, 2, 3), "y": np.arange(rows)}
    options: dict[str, Any] = {
        "shuffle": shuffle,
        "part": (rows // 3, rows - rows // 3) if split else None,
        "accumulate": accumulate,
        "limit": limit,
        "seed": 7,
        "augment": lambda batch, seed: (batch, seed),
    }
    there, here = ArraySource(arrays, size, **options), HostArraySource(arrays, size, **options)
    assert (here.steps, here.count, here.micro_rows) == (there.steps, there.count, there.micro_rows)
    start = data.draw(st.integers(0, there.steps - 1))
    for left, right in zip(batches(there, epoch, start), batches(here, epoch, start), strict=True):
        np.testing.assert_array_equal(left, right)
    assert tf.nest.flatten(here.spec()) == tf.nest.flatten(there.spec())
