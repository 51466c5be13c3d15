"""A function as data: it computes what it did, and nothing but arithmetic is let through."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from framework.core.pure_graph import NotPure, decode, encode

SPEC = [tf.TensorSpec([None, 2], tf.uint8)]


def test_it_computes_what_the_function_did_with_what_it_captured() -> None:
    mean = tf.constant([1.5, -2.0])
    encoded = encode(lambda x: [tf.cast(x, tf.float32) / 4 - mean, x[:, :1]], SPEC)
    x = np.array([[4, 8], [255, 0], [1, 2]], np.uint8)
    scaled, first = decode(encoded)(tf.constant(x))
    np.testing.assert_allclose(scaled, x / 4 - [1.5, -2.0], rtol=1e-6)
    np.testing.assert_array_equal(first, x[:, :1])


def test_branches_and_loops_without_state_are_arithmetic_too() -> None:
    def power(x: tf.Tensor) -> list[tf.Tensor]:
        start = (tf.constant(0), tf.cast(x, tf.int64))
        return [tf.nest.flatten(tf.while_loop(lambda i, _: i < 3, _double, start))[1]]

    def _double(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, y * 2

    (found,) = decode(encode(power, SPEC))(tf.constant([[1, 5]], tf.uint8))
    np.testing.assert_array_equal(found, [[8, 40]])


variable = tf.Variable(1.0)
IMPURE: dict[str, Callable[[Any], Any]] = {
    "ReadFile": lambda x: [x, tf.strings.length(tf.io.read_file("/etc/hostname"))],
    "PyFunc": lambda x: [tf.numpy_function(lambda y: y, [x], tf.uint8)],
    "a variable": lambda x: [tf.cast(x, tf.float32) * variable],
    "RandomUniform": lambda x: [tf.random.uniform([2]) + tf.cast(x, tf.float32)],
    "bytes": lambda x: [tf.cast(x[:, :1], tf.float32) + np.arange(2**21, dtype="f4")[None]],
}


@pytest.mark.parametrize("what", IMPURE)
def test_anything_else_is_refused_by_name(what: str) -> None:
    with pytest.raises(NotPure, match=what):
        encode(IMPURE[what], SPEC)


def test_a_graph_that_somebody_put_there_is_refused_before_it_runs(tmp_path: Any) -> None:
    target = tmp_path / "written"
    traced = tf.function(
        lambda x: [x, tf.io.write_file(str(target), "mine")][:1], autograph=False
    ).get_concrete_function(tf.TensorSpec([None, 2], tf.uint8))
    content = traced.graph.as_graph_def().SerializeToString()
    assert b"WriteFile" in content
    sent = {"graph": base64.b64encode(content).decode(), "inputs": ["x:0"], "outputs": ["x:0"]}
    with pytest.raises(NotPure, match="WriteFile"):
        decode(sent)
    assert not target.exists()


@pytest.mark.parametrize("damage", [{"graph": "%%"}, {"graph": "QUJD"}, {"inputs": 3}, {}])
def test_what_is_damaged_is_refused(damage: dict[str, Any]) -> None:
    whole = encode(lambda x: [x], SPEC)
    with pytest.raises(NotPure, match="cannot be read"):
        decode({**whole, **damage} if damage else None)
