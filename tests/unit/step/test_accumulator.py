"""Means weighted by examples, over names that come late."""

from __future__ import annotations

from functools import partial

import numpy as np
import tensorflow as tf

from framework.step.metric_sums import Accumulator, add_sums, means


def test_means_over_names_that_come_later_in_another_batch_shape() -> None:
    sums = Accumulator()
    value = partial(tf.constant, dtype=tf.float64)
    sums.add({"a": (value(2.0), value(4))})
    sums.add({"a": (value(6.0), value(2)), "b": (value(1), value(2))})
    assert sums.read() == {"a": (2 * 4 + 6 * 2) / 6, "b": 1.0}
    saved = sums.sums()
    sums.reset()
    assert all(np.isnan(v) for v in sums.read().values())
    sums.load(saved)
    assert sums.read() == {"a": 20 / 6, "b": 1.0}
    assert means(add_sums(saved, {"b": (4.0, 2.0), "c": (3.0, 1.0)})) == {
        "a": 20 / 6,
        "b": 1.5,
        "c": 3,
    }
