"""Classification is recognized by what batches and predictions look like, or told."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from helpers import Net

from framework import UserError
from framework.callbacks.pictures.recognition import Recognition

X = np.zeros((3, 2), np.float32)
Y = np.array([0, 2, 1])
LOGITS = np.array([[2, 1, -1], [0, 0.5, 3], [-1, 4, 2]], np.float32)
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


class Overridden(Net):
    def predict_step(self, batch: Any) -> Any:
        return keras.ops.softmax(super().predict_step(batch))


def of_loss(from_logits: bool, kind: type[Net] = Net) -> Net:
    return kind(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))


@pytest.mark.parametrize("scores", [LOGITS, SOFTMAX, SOFTMAX.astype(np.float16)])
def test_logits_and_probabilities_are_told_apart_by_their_sums(scores: np.ndarray) -> None:
    labels, found = Recognition(Net())((X, Y), scores)
    assert labels.tolist() == [0, 2, 1]
    np.testing.assert_allclose(found, SOFTMAX, atol=2e-3 if scores.dtype == np.float16 else 1e-6)


def test_the_loss_knows_better_than_the_sums_of_the_models_own_outputs() -> None:
    even = np.full((3, 2), 0.5, np.float32)
    even[0] = 0.9, 0.1  # they add up to 1, and are logits all the same
    wanted = 1 / (1 + np.exp(-0.8))
    _, found = Recognition(of_loss(True))((X, Y % 2), even)
    assert found[0, 0] == pytest.approx(wanted, rel=1e-6)
    for task in (of_loss(False), of_loss(True, Overridden), Net()):
        _, found = Recognition(task)((X, Y % 2), even)
        np.testing.assert_array_equal(found, even)


def test_a_later_batch_is_read_like_the_first() -> None:
    read = Recognition(Net())
    read((X, Y), LOGITS)
    _, found = read((X[:1], Y[:1]), np.array([[0.2, 0.3, 0.5]], np.float32))
    assert found[0, 2] == pytest.approx(np.exp(0.5) / np.exp([0.2, 0.3, 0.5]).sum(), rel=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_output_is_the_second_of_two_classes(shape: tuple[int, ...]) -> None:
    scores, labels = np.array([-3.0, 0.0, 30.0]).reshape(shape), np.array([[0.0], [1.0], [1.0]])
    found, probabilities = Recognition(Net())((X, labels), scores)
    assert found.tolist() == [0, 1, 1]
    wanted = 1 / (1 + np.exp(-scores.ravel()))
    np.testing.assert_allclose(probabilities, np.stack([1 - wanted, wanted], 1), atol=1e-6)
    _, probabilities = Recognition(Net())((X, labels), np.array([0.2, 0.5, 1.0]).reshape(shape))
    np.testing.assert_allclose(probabilities[:, 1], [0.2, 0.5, 1.0], atol=1e-6)
    logits = Net(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    _, probabilities = Recognition(logits)((X, labels), np.array([0.2, 0.5, 1.0]).reshape(shape))
    np.testing.assert_allclose(probabilities[0, 1], 1 / (1 + np.exp(-0.2)), rtol=1e-6)


@pytest.mark.parametrize(
    "labels", [Y, Y.astype("float32"), Y[:, None], np.eye(3)[Y], Y.astype("uint8")]
)
def test_labels_are_numbers_or_one_hot(labels: np.ndarray) -> None:
    found, _ = Recognition(Net())((X, labels, np.ones(3)), SOFTMAX)
    assert found.tolist() == [0, 2, 1]


def test_what_it_cannot_know_it_is_told() -> None:
    batch, output = {"x": X, "kind": Y}, {"features": X, "scores": LOGITS}
    for labels, scores in (
        ("kind", "scores"),
        (lambda b: b["kind"], lambda o: o["scores"]),
        (lambda b: np.eye(3)[b["kind"]], lambda o: SOFTMAX),
    ):
        found, probabilities = Recognition(Net(), labels, scores)(batch, output)
        assert found.tolist() == [0, 2, 1]
        np.testing.assert_allclose(probabilities, SOFTMAX, atol=1e-6)
    assert Recognition(Net(), 0)((Y, X), SOFTMAX)[0].tolist() == [0, 2, 1]
    assert Recognition(Net())((X, Y), [SOFTMAX])[0].tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("batch", "output", "what", "argument"),
    [
        (X, SOFTMAX, "a batch is float32 [3, 2], not (x, y)", "labels"),
        ({"x": X}, SOFTMAX, "a batch is {x: float32 [3, 2]}, not (x, y)", "labels"),
        ((X, Y + 0.5), SOFTMAX, "the labels go from 0.5 to 2.5, for 3 classes", "labels"),
        ((X, Y + 1), SOFTMAX, "the labels go from 1 to 3, for 3 classes", "labels"),
        ((X, np.ones((3, 3))), SOFTMAX, "and a row is not one class", "labels"),
        ((X, np.ones((3, 5))), SOFTMAX, "the labels are float64 [3, 5] for 3 classes", "labels"),
        ((X, {"y": Y}), SOFTMAX, "the labels are {y: int64 [3]}", "labels"),
        ((X, Y), {"a": X, "b": X}, "{a: float32 [3, 2], b: float32 [3, 2]}", "probabilities"),
        ((X, Y), np.zeros((3, 4, 4, 2)), "float64 [3, 4, 4, 2]", "probabilities"),
        ((X, Y), Y, "predict_step returns int64 [3]", "probabilities"),
    ],
)
def test_anything_else_is_named_with_the_argument_that_tells(
    batch: Any, output: Any, what: str, argument: str
) -> None:
    with pytest.raises(UserError, match=re.escape(what)) as error:
        Recognition(Net())(batch, output)
    assert error.value.where == argument
    assert f"Give {argument}=" in error.value.fix


def test_independent_probabilities_are_not_classes() -> None:
    task = Net(loss=keras.losses.BinaryCrossentropy())
    with pytest.raises(UserError, match="whose rows do not add up to 1"):
        Recognition(task)((X, Y), np.full((3, 3), 0.9))


def test_an_entry_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"labels is 'kind', and there is only \{x: float32"):
        Recognition(Net(), "kind")({"x": X}, SOFTMAX)
