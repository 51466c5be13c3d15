"""The function from raw inputs to predictions: its names, its rows, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from framework import UserError
from framework.serving.answers import Answers
from framework.sources.inputs import Inputs

IMAGES, LABELS = tf.TensorSpec([None, 2, 2], tf.uint8), tf.TensorSpec([None], tf.int64)


def answers(step: Any, raw: Any = (IMAGES, LABELS)) -> Answers:
    def halved(batch: Any) -> Any:
        return tf.nest.map_structure(lambda t: tf.cast(t, tf.float32) / 2, batch)

    return Answers.of(step, Inputs(raw, None, (), halved), "Mine.predict_step")


def test_labels_that_no_prediction_depends_on_are_no_inputs() -> None:
    found = answers(lambda batch: tf.reduce_sum(batch[0], [1, 2]))
    assert list(found.inputs) == ["inputs"]
    assert list(found.outputs) == ["predictions"]
    x = np.arange(4 * 700, dtype=np.uint8).reshape(700, 2, 2)  # more rows than fit at once
    assert found.rows_at_once() == 512
    np.testing.assert_array_equal(found(found.named(x))["predictions"], x.sum((1, 2)) / 2)


def test_inputs_and_outputs_are_named_by_their_places() -> None:
    raw = {"left": LABELS, "right": LABELS, "unused": LABELS}
    found = answers(lambda b: {"sum": b["left"] + b["right"], "all": (b["left"],)}, raw)
    assert list(found.inputs) == ["left", "right"]
    assert list(found.outputs) == ["sum", "all_0"]
    given = found.named({"right": np.array([4, 6]), "left": np.array([1, 2])})
    packed = found.packed(found(given))
    np.testing.assert_array_equal(packed["sum"], [2.5, 4.0])
    np.testing.assert_array_equal(packed["all"][0], [0.5, 1.0])
    pair = answers(lambda batch: batch[0][:, 0, 0] + batch[1])
    assert list(pair.inputs) == ["inputs_0", "inputs_1"]


def test_half_precision_comes_out_as_float32() -> None:
    found = answers(lambda batch: tf.cast(batch[0], tf.bfloat16))
    assert found.outputs["predictions"].dtype == tf.float32


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (lambda b: tf.reshape(b[0], [32, 4]), "a fixed size"),
        (lambda b: tf.ensure_shape(b[0], [2, 2, 2]), "a fixed size"),
        (lambda b: b[0] @ tf.zeros([b[0].shape[0], 2, 2]), "a fixed size"),
        (lambda b: tf.reduce_mean(b[0]), r"shape \(\)"),
        (lambda b: b[0] @ tf.zeros([3, 3]), "predict_step fails"),
    ],
)
def test_a_step_that_needs_a_certain_number_of_rows_is_refused(step: Any, what: str) -> None:
    with pytest.raises(UserError, match=what) as refused:
        answers(step)
    assert refused.value.where == "Mine.predict_step"


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (np.zeros((2, 2, 2)), "is float64"),  # scaled already: not what the data set has
        (np.zeros((2, 3, 2), np.uint8), "shape"),
        (np.zeros((0, 2, 2), np.uint8), "shape"),
        (np.full((1, 2, 2), 256), "uint8 does not hold"),
        ({"images": np.zeros((2, 2, 2), np.uint8)}, "there are images"),
    ],
)
def test_other_inputs_are_refused_with_what_is_taken(given: Any, what: str) -> None:
    with pytest.raises(UserError, match=what) as refused:
        answers(lambda batch: batch[0]).named(given)
    assert "inputs: uint8 of shape (rows, 2, 2)" in refused.value.fix


def test_whole_numbers_of_another_type_are_taken_if_they_fit() -> None:
    given = answers(lambda batch: batch[0]).named(np.full((1, 2, 2), 255))
    assert given["inputs"].dtype == np.uint8
