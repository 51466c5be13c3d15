"""Sources of batches: every row once, the same order for the same seed, and clear refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, Net, blobs, differing, fitted, make_trainer
from hypothesis import given
from hypothesis import strategies as st

from framework import Data, Task, Trainer, UserError
from framework.sources.arrays import ArraySource
from framework.sources.open import open_eval, open_train
from framework.sources.source import Source, batch_rows


def read_epoch(source: Source, epoch: int, stop: int | None = None) -> list[Any]:
    """An epoch's batches, read as the loop reads them."""
    batches = []
    for first, last, size in source.parts(0, stop or source.steps):
        cursor = source.cursor(epoch, first)
        for index in range(first, last):
            batch = source.read(cursor, tf.constant(index, tf.int64), size)
            batches.append(tf.nest.map_structure(lambda t: t.numpy(), batch))
        source.moved(last)
    return batches


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    limit=st.one_of(st.integers(1, 30), st.floats(0.01, 1.0)),
    seed=st.integers(0, 2**31 - 1),
    shuffle=st.booleans(),
)
def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(
    rows: int, batch_size: int, limit: int | float, seed: int, shuffle: bool
) -> None:
    x = np.arange(rows)
    source = ArraySource(x, batch_size, shuffle=shuffle, seed=seed)
    epochs = [np.concatenate(read_epoch(source, epoch)) for epoch in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(rows))
    sizes = [len(batch) for batch in read_epoch(source, 0)]
    whole, rest = divmod(rows, batch_size)
    assert sizes == [batch_size] * whole + [rest] * bool(rest)
    if not shuffle:
        assert all((order == x).all() for order in epochs)
    elif rows > 12:  # twelve rows have 479 million orders
        assert len({tuple(order) for order in epochs}) == 3
        other = ArraySource(x, batch_size, shuffle=True, seed=(seed + 1) % 2**31)
        assert np.concatenate(read_epoch(other, 0)).tolist() != epochs[0].tolist()
    again = ArraySource(x, batch_size, shuffle=shuffle, seed=seed)
    assert np.concatenate(read_epoch(again, 2)).tolist() == epochs[2].tolist()

    cut = ArraySource(x, batch_size, shuffle=shuffle, seed=seed, limit=limit)
    steps = math.ceil(rows / batch_size)
    kept = min(steps, limit) if isinstance(limit, int) else math.ceil(steps * limit)
    assert cut.steps == kept
    found = np.concatenate(read_epoch(cut, 1))
    assert found.tolist() == epochs[1][: len(found)].tolist()
    assert len(found) == min(rows, kept * batch_size)


@given(rows=st.integers(2, 60), fraction=st.floats(0.01, 0.95), seed=st.integers(0, 1000))
def test_val_fraction_splits_without_overlap_or_loss(rows: int, fraction: float, seed: int) -> None:
    data = Data(train=np.arange(rows), val_fraction=fraction, batch_size=7)
    held_back = max(1, round(rows * fraction))
    if held_back == rows:
        with pytest.raises(UserError, match="leaves nothing to train on"):
            open_train(data, seed=seed)
        return
    train = open_train(data, seed=seed)
    val = open_eval(data, "val", seed=seed)[""]
    seen = [np.concatenate(read_epoch(train, epoch)).tolist() for epoch in (0, 1)]
    held = np.concatenate(read_epoch(val, 0)).tolist()
    assert len(held) == held_back
    assert sorted(held + seen[0]) == list(range(rows))
    assert sorted(seen[0]) == sorted(seen[1])
    if rows > 40 and held_back > 6:
        other = np.concatenate(read_epoch(open_eval(data, "val", seed=seed + 1)[""], 0)).tolist()
        assert sorted(other) != sorted(held)


def test_with_val_fraction_the_arrays_are_held_once() -> None:
    x, y = blobs(40)
    held: dict[int, tf.Tensor] = {}
    data = Data(train=(x, y), val_fraction=0.25)
    sources = [open_train(data, seed=0, held=held), open_eval(data, "val", seed=0, held=held)[""]]
    assert len(held) == 2
    first, second = (source._tensors for source in sources)
    assert all(a is b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("make", ["known", "generator", "Batches"])
def test_val_fraction_needs_arrays(make: str) -> None:
    stream = globals()[make]
    data = Data(train=stream if make == "generator" else stream(), val_fraction=0.5)
    for opened in (lambda: open_train(data, seed=0), lambda: open_eval(data, "val", seed=0)):
        with pytest.raises(UserError, match="val_fraction needs arrays") as error:
            opened()
        assert error.value.where == "data.val_fraction"
    with pytest.raises(UserError, match="val_fraction needs arrays"):
        fitted(Net(), data)


def test_arrays_are_kept_as_they_are_stored_and_scaled_in_the_graph() -> None:
    pixels = np.arange(6 * 4, dtype="uint8").reshape(6, 2, 2)
    data = Data(train=(pixels, np.arange(6)), map=lambda b: (tf.cast(b[0], tf.float32) / 255, b[1]))
    source = open_train(data, seed=0)
    assert source._tensors[0].dtype == tf.uint8
    images, labels = read_epoch(source, 0)[0]
    assert images.dtype == np.float32
    assert images == pytest.approx(pixels[labels].astype("float32") / 255)
    assert source.spec()[0].dtype == tf.float32


def test_augmentation_draws_anew_for_every_step_and_the_same_in_every_run() -> None:
    def augment(batch: Any, seed: tf.Tensor) -> Any:
        assert seed.shape == (2,)
        assert seed.dtype == tf.int64
        return batch + tf.random.stateless_uniform(tf.shape(batch), seed)

    data = Data(train=np.zeros((10, 3), "float32"), batch_size=4, augment=augment, shuffle=False)
    epochs = [read_epoch(open_train(data, seed=1), epoch) for epoch in (0, 1, 0)]
    flat = [batch.tobytes() for epoch in epochs[:2] for batch in epoch]
    assert len(set(flat)) == 6
    assert [b.tobytes() for b in epochs[2]] == flat[:3]
    assert read_epoch(open_train(data, seed=2), 0)[0].tobytes() != flat[0]
    # An epoch that is cut short draws no other numbers for the batches that it has.
    cut = read_epoch(open_train(data, seed=1, limit=1), 1)
    assert cut[0].tobytes() == flat[3]
    evaluated = open_eval(Data(val=data.train, augment=augment), "val", seed=1)[""]
    assert not np.concatenate(read_epoch(evaluated, 0)).any()  # training alone is augmented


class Passed(Task):
    """Keeps the batch's structure, and returns a loss of one weight."""

    def build_model(self) -> keras.Model:
        return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def train_step(self, batch: Any) -> Any:
        self.batch = batch
        return tf.reduce_sum(self.model(tf.ones((1, 1))))

    def eval_step(self, batch: Any) -> None:
        self.log("seen", 1.0)


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


def test_rows_of_a_batch() -> None:
    assert batch_rows((tf.zeros((4, 2)), tf.zeros(3))) == 4
    assert batch_rows({"a": tf.zeros((5, 1))}) == 5
    assert batch_rows(tf.constant(1.0)) == 1


class Order(Net):
    """Keeps the first feature of every row that it trains on; for the eager engine."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[float]] = []

    def train_step(self, batch: Any) -> Any:
        self.batches.append(batch[0][:, 0].numpy().tolist())
        return super().train_step(batch)


X, Y = blobs(11)


class Batches(keras.utils.PyDataset):
    """Three batches whose order turns round after each epoch."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.order = [0, 1, 2]

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        rows = slice(4 * self.order[index], 4 * self.order[index] + 4)
        return X[rows], Y[rows]

    def on_epoch_end(self) -> None:
        self.order = self.order[::-1]


def generator() -> Iterator[Any]:
    for start in range(0, 11, 4):
        yield X[start : start + 4], Y[start : start + 4]


def known() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


def unknown() -> tf.data.Dataset:
    return known().filter(lambda *_: True)


IN_ORDER = [X[0:4, 0].tolist(), X[4:8, 0].tolist(), X[8:, 0].tolist()]


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
        (3.0, "no array of rows", "data.train"),
        ([[1.0, 2.0]], "no array of rows", "data.train"),
        ((X, 3), "no array of rows", "data.train"),
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
    assert error.value.where == f"data.{part}, tests/test_data_sources.py:{line}"
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
    assert error.value.what == f"the train {kind} gives a batch of {found}, after one of {wanted}"
    assert error.value.where == "data.train"


def test_a_pydataset_that_fails_between_two_epochs() -> None:
    with pytest.raises(UserError, match="the train PyDataset failed: KeyError: 'no such order'"):
        fitted(Net(), Data(train=Failing(9, "epoch")), max_epochs=2)


PAIR = (X, Y)


@pytest.mark.parametrize(
    ("train", "val", "names"),
    [
        (PAIR, {"a": PAIR, "b": PAIR}, {"a", "b"}),
        (PAIR, {"a": [X, Y], "b": [X, Y]}, {"a", "b"}),
        ({"x": X, "y": Y}, {"a": {"x": X, "y": Y}, "b": {"x": X, "y": Y}}, {"a", "b"}),
        (PAIR, {"a": known(), "b": generator}, {"a", "b"}),
        ({"x": X, "y": Y}, {"x": X, "y": Y}, {""}),
        # Nested dicts, but of the training set's names: one set.
        ({"x": (X, X), "y": (Y, Y)}, {"x": (X, X), "y": (Y, Y)}, {""}),
        (PAIR, {"x": PAIR, "y": Y}, {""}),
    ],
)
def test_one_set_or_several(train: Any, val: Any, names: set[str]) -> None:
    assert open_eval(Data(train=train, val=val), "val", seed=0).keys() == names
