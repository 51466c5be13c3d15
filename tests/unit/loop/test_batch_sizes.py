"""Sizes of batches of evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from helpers import blobs

from framework import Data
from framework.sources.arrays import ArraySource, _large, row_bytes
from framework.sources.open import open_eval

X, Y = blobs(1_100)


@pytest.mark.parametrize(
    ("rows", "shape", "dtype", "batch", "expected"),
    [
        (10_000, (32, 32, 3), "uint8", 32, 500),  # 20 even batches, none of them ragged
        (100, (10,), "float32", 32, 100),  # never more than there are
        (10_000, (224, 224, 3), "float32", 8, 27),  # 16 MB hold 27 rows of 602,112 bytes
        (10_000, (224, 224, 3), "float32", 32, 32),  # never fewer than a training batch
        (10_000, (32, 32, 3), "uint8", 600, 600),
    ],
)
def test_automatic_batches_are_large_even_and_bounded_by_memory(
    rows: int, shape: tuple[int, ...], dtype: str, batch: int, expected: int
) -> None:
    class Spec:  # of a tensor that would not fit here
        def __init__(self) -> None:
            self.shape, self.dtype = (rows, *shape), tf.as_dtype(dtype)

    assert _large(batch, rows, row_bytes([Spec()])) == expected


def test_a_size_that_is_given_and_a_limit_that_counts_batches_are_kept() -> None:
    def size(limit: Any = 1.0, **options: Any) -> int:
        source = open_eval(Data(test=(X, Y), batch_size=8, **options), "test", seed=0, limit=limit)[
            ""
        ]
        assert isinstance(source, ArraySource)
        return source.batch_size

    assert size() == 367  # 1,100 rows in 3 batches
    assert [size(eval_batch_size=5), size(limit=3), size(limit=0.5)] == [5, 8, 8]
