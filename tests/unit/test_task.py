"""What a task may do outside a run."""

from __future__ import annotations

import pytest
import tensorflow as tf
from helpers import Net

from framework import UserError


def test_log_outside_a_run_is_refused() -> None:
    with pytest.raises(UserError, match="only while a Trainer runs"):
        Net().log("loss", 1.0)


def test_floats_of_16_bits_become_float32() -> None:
    made = Net().to_float32({"a": tf.ones(2, tf.bfloat16), "b": tf.ones(2, tf.int32)})
    assert made["a"].dtype == tf.float32
    assert made["b"].dtype == tf.int32
