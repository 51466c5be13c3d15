"""Data and options of data that cannot be used are refused in clear words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, fitted
from stream_kinds import IN_ORDER, Order, Passed, X, Y, generator, known, unknown

from framework import Data, UserError


def test_a_batch_whose_first_axis_is_not_the_examples() -> None:
    class TimeMajor(Passed):
        def train_step(self, batch: Any) -> Any:
            self.log("rows", tf.shape(batch)[1], weight=tf.shape(batch)[1])
            return super().train_step(batch)

    stream = tf.data.Dataset.from_tensor_slices(np.zeros((5, 7, 3), "float32")).batch(2)
    data = Data(train=stream, map=lambda batch: tf.transpose(batch, (1, 0, 2)))
    task = TimeMajor()
    trainer = fitted(task, data)
    assert task.batch.shape[0] == 7
    assert trainer.metrics["train/rows"] == (2 * 2 + 2 * 2 + 1) / 5


def test_a_fraction_of_a_stream_needs_its_length() -> None:
    task = Order()
    fitted(task, Data(train=known()), engine="eager", limit_train_batches=0.5)
    assert task.batches == IN_ORDER[:2]
    with pytest.raises(UserError, match="fraction of a set of unknown length"):
        fitted(Net(), Data(train=unknown()), limit_train_batches=0.5)


def test_a_stream_without_end_needs_a_limit() -> None:
    task = Order()
    data = Data(train=known().repeat())
    trainer = fitted(task, data, engine="eager", max_epochs=2, limit_train_batches=4)
    assert trainer.progress.step == 8
    assert task.batches[:4] == [*IN_ORDER, IN_ORDER[0]]
    with pytest.raises(UserError, match="never ends") as error:
        fitted(Net(), data)
    assert "limit_train_batches" in str(error.value.fix)


@pytest.mark.parametrize(
    ("train", "message", "where"),
    [
        (None, "there is no training data", "Data(train=...)"),
        ((), "the train set holds no arrays", "data.train"),
        (generator(), "an iterator, which can be read only once", "data.train"),
        (iter([1, 2]), "an iterator, which can be read only once", "data.train"),
        (map(abs, [1]), "an iterator, which can be read only once", "data.train"),
        (zip([1], [2], strict=True), "an iterator, which can be read only once", "data.train"),
        ((X, Y[:-1]), r"differ in their number of rows \(0: 11, 1: 10\)", "data.train"),
        ({"a": X, "b": Y[:3]}, r"a: 11, b: 3", "data.train"),
        ((X[:0], Y[:0]), "the train set has no rows", "data.train"),
        (3.0, "not an array of rows", "data.train"),
        ([[1.0, 2.0]], "not an array of rows", "data.train"),
        ((X, 3), "not an array of rows", "data.train"),
        (
            (np.array([[1], [2, 3]], object), Y[:2]),
            "0 of the train set is an array of Python",
            "data.train",
        ),
        ((tf.Variable(X), Y), "0 of the train set is a variable", "data.train"),
        (lambda: None, "the train generator is a function that returns NoneType", "data.train"),
        (lambda: iter(()), "the train generator yields no batch", "data.train"),
        (tf.data.Dataset.range(0), "the train set has no batches", "data.train"),
    ],
)
def test_unusable_data_is_refused(train: Any, message: str, where: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        fitted(Net(), Data(train=train))
    assert error.value.where == where


def test_a_stream_of_unknown_length_without_a_batch_is_refused() -> None:
    empty = known().filter(lambda *_: False)
    with pytest.raises(UserError, match="the train set has no batches"):
        fitted(Net(), Data(train=empty))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": "8"},
        {"batch_size": True},
        {"batch_size": None},
        {"val_fraction": "0.1"},
        {"val_fraction": None},
        {"map": 3},
        {"augment": "flip"},
        {"eval_batch_size": -1},
        {"val_fraction": 1.0},
        {"val_fraction": -0.1},
        {"val_fraction": 0.1, "val": (X, Y)},
    ],
)
def test_options_of_data_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        Data(train=(X, Y), **options)
    assert str(error.value.where).startswith("data.")
