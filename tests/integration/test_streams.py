"""Streams give the weights that arrays give, and their faults are said in their terms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, Net, blobs, differing, fitted, make_trainer
from stream_kinds import IN_ORDER, Batches, Order, Passed, X, Y, generator, known, unknown

from framework import Data, Trainer, UserError


@pytest.mark.parametrize(
    "train",
    [
        np.zeros((12, 2)),
        (np.zeros((12, 2)), np.zeros(12)),
        {"image": np.zeros((12, 2)), "label": np.zeros(12, "int32")},
        {"in": (np.zeros((12, 2)), {"mask": np.zeros((12, 3, 3), bool)}), "out": np.zeros(12)},
        ((np.zeros(12), np.zeros(12)), np.zeros((12, 1))),
        [np.zeros((12, 2)), np.zeros(12)],
    ],
)
def test_a_batch_is_passed_on_with_its_structure(train: Any) -> None:
    task = Passed()
    trainer = fitted(task, Data(train=train, batch_size=4))
    tf.nest.assert_same_structure(task.batch, train)
    for got, given_ in zip(tf.nest.flatten(task.batch), tf.nest.flatten(train), strict=True):
        assert got.shape == (4, *given_.shape[1:])
        assert got.dtype == given_.dtype
    assert trainer.progress.examples == 12


@cache
def from_arrays(epochs: int) -> Trainer:
    """What every stream of these rows has to come to."""
    data = Data(train=(X, Y), val=(X, Y), batch_size=4, shuffle=False)
    return fitted(Net(), data, max_epochs=epochs)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    "make", [known, unknown, lambda: generator, Batches, lambda: Batches(workers=2)]
)
def test_every_kind_of_stream_gives_the_weights_of_the_arrays(make: Any, engine: str) -> None:
    stream = make()
    epochs = 1 if isinstance(stream, Batches) else 2  # its second epoch runs backwards
    trainer = fitted(Net(), Data(train=stream, val=make()), engine=engine, max_epochs=epochs)
    expected = from_arrays(epochs)
    assert trainer.progress.step == expected.progress.step
    assert trainer.progress.examples == expected.progress.examples
    pairs = (each.task.model.get_weights() for each in (trainer, expected))
    for got, wanted in zip(*pairs, strict=True):
        assert got == pytest.approx(wanted, abs=1e-6)
    assert trainer.metrics == pytest.approx(expected.metrics, abs=1e-6)


@pytest.mark.parametrize("log_every", ["1st", "50st"])
def test_a_pydataset_is_read_in_its_order_and_told_of_the_epochs_end(log_every: str) -> None:
    task = Order()
    fitted(task, Data(train=Batches()), engine="eager", max_epochs=3, log_every=log_every)
    assert task.batches == IN_ORDER + IN_ORDER[::-1] + IN_ORDER


@pytest.mark.parametrize("make", [known, unknown, lambda: generator])
@pytest.mark.parametrize("log_every", ["1st", "2st", "50st"])
def test_a_stream_begins_anew_with_every_epoch(make: Any, log_every: str) -> None:
    task = Order()
    trainer = fitted(task, Data(train=make()), engine="eager", max_epochs=2, log_every=log_every)
    assert task.batches == IN_ORDER * 2
    assert (trainer.progress.epoch, trainer.steps_per_epoch) == (2, 3)


@pytest.mark.parametrize("make", [known, unknown, lambda: generator, Batches])
def test_limits_of_streams(make: Any) -> None:
    task = Order()
    fitted(task, Data(train=make()), engine="eager", max_epochs=1, limit_train_batches=2)
    assert task.batches == IN_ORDER[:2]


def test_a_stream_is_mapped_and_augmented_too() -> None:
    def augment(batch: Any, seed: tf.Tensor) -> Any:
        return batch[0] + tf.random.stateless_uniform([], seed), batch[1]

    task = Order()
    data = Data(train=known(), map=lambda *b: (b[0][0] * 0, b[0][1]), augment=augment)
    fitted(task, data, engine="eager", max_epochs=2)
    draws = [batch[0] for batch in task.batches]
    assert all(0 < draw < 1 for draw in draws)
    assert len(set(draws)) == 6  # another draw for every step, in every epoch


def test_the_first_batch_of_a_generator_is_not_lost() -> None:
    calls: list[int] = []

    def counting() -> Iterator[Any]:
        calls.append(1)
        yield from generator()

    task = Order()
    fitted(task, Data(train=counting), engine="eager", max_epochs=2)
    assert task.batches == IN_ORDER * 2


def test_batch_shuffled_streams_and_seeds_agree_between_two_runs() -> None:
    def make() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(11, seed=4).batch(4)

    runs = [fitted(Net(), Data(train=make()), max_epochs=3) for _ in range(2)]
    assert differing(*runs) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["train", "val"])
def test_nan_in_the_inputs_names_the_first_row(part: str, value: float) -> None:
    x, y = blobs(1_200)
    x[[1_007, 1_100], [2, 0]] = value
    sets = {"train": blobs(8), "val": blobs(8), part: {"x": x, "y": y}}
    with pytest.raises(UserError) as error:
        fitted(Net(), Data(**sets))
    assert "NaN or infinity in 2 of 1,200 rows, first in row 1,007" in error.value.what
    assert error.value.where == f"data.{part} (x)"


def test_evaluation_has_a_batch_size_of_its_own_and_keeps_the_order() -> None:
    task = Net()
    found = make_trainer().predict(
        task, Data(test=X, batch_size=2, eval_batch_size=5, shuffle=True)
    )
    expected = X @ task.model.get_weights()[0] + task.model.get_weights()[1]
    assert found == pytest.approx(expected, abs=1e-5)
    assert X.shape == (11, FEATURES)


def test_predict_on_streams_and_several_sets() -> None:
    task = Net()
    sets = {"a": known(), "b": unknown(), "c": generator}
    found = make_trainer().predict(task, Data(predict=sets))
    assert found.keys() == sets.keys()
    expected = X @ task.model.get_weights()[0] + task.model.get_weights()[1]
    for name in sets:
        assert found[name] == pytest.approx(expected, abs=1e-5)


def test_numpys_numbers_are_numbers() -> None:
    sizes = {"batch_size": np.int64(5), "eval_batch_size": np.uint8(3)}
    data = Data(train=(X, Y), val_fraction=np.float32(0.5), **sizes)
    assert (type(data.batch_size), data.batch_size, data.eval_batch_size) == (int, 5, 3)
    options = {"max_steps": np.int64(3), "limit_train_batches": np.int32(1)}
    trainer = fitted(Net(), data, max_epochs=np.int64(9), **options)
    assert (trainer.progress.step, trainer.progress.epoch) == (3, 3)


class Failing(keras.utils.PyDataset):
    """Batches of which one is faulty."""

    def __init__(self, at: int, how: str, **options: Any) -> None:
        super().__init__(**options)
        self.at, self.how = at, how

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        if index == self.at and self.how == "raise":
            raise KeyError("no such file")
        if index == self.at and self.how == "shape":
            return X[:4, :2], Y[:4]
        if index == self.at and self.how == "structure":
            return X[:4]
        return X[:4], Y[:4]

    def on_epoch_end(self) -> None:
        if self.how == "epoch":
            raise KeyError("no such order")


def failing(at: int, how: str) -> Any:
    def batches() -> Iterator[Any]:
        source = Failing(at, how)
        for index in range(3):
            yield source[index]

    return batches


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(("make", "kind"), [(failing, "generator"), (Failing, "PyDataset")])
@pytest.mark.parametrize("part", ["train", "val", "predict"])
@pytest.mark.parametrize("at", [0, 2])
def test_what_the_users_batches_raise_is_said_in_their_terms(
    make: Any, kind: str, part: str, at: int, engine: str
) -> None:
    data = Data(**{"train": (X, Y), part: make(at, "raise")})
    trainer = make_trainer(engine=engine)
    run = trainer.predict if part == "predict" else trainer.fit
    with pytest.raises(UserError) as error:
        run(Net(), data)
    assert error.value.what == f"the {part} {kind} failed: KeyError: 'no such file'"
    line = 1 + next(i for i, x in enumerate(SOURCE) if "no such file" in x)
    assert error.value.where == f"data.{part}, {os.path.relpath(__file__)}:{line}"
    assert isinstance(error.value.__cause__, KeyError)


SOURCE = Path(__file__).read_text().splitlines()


@pytest.mark.parametrize(("make", "kind"), [(failing, "generator"), (Failing, "PyDataset")])
@pytest.mark.parametrize(
    ("how", "found"), [("shape", "(float32 [4, 2], int64 [4])"), ("structure", "float32 [4, 6]")]
)
def test_a_batch_unlike_the_first_is_refused(make: Any, kind: str, how: str, found: str) -> None:
    with pytest.raises(UserError) as error:
        fitted(Net(), Data(train=make(1, how)))
    wanted = "(float32 [None, 6], int64 [None])"
    assert error.value.what == f"the train {kind} returns a batch of {found}, after one of {wanted}"
    assert error.value.where == "data.train"


def test_a_pydataset_that_fails_between_two_epochs() -> None:
    with pytest.raises(UserError, match="the train PyDataset failed: KeyError: 'no such order'"):
        fitted(Net(), Data(train=Failing(9, "epoch")), max_epochs=2)
