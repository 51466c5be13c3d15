"""Arrays: every row once, the same order for the same seed, splits and scales."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, fitted
from hypothesis import given
from hypothesis import strategies as st
from stream_kinds import Batches, X, Y, generator, known

from framework import Data, UserError
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


@pytest.mark.parametrize("make", [known, generator, Batches])
def test_val_fraction_needs_arrays(make: Any) -> None:
    data = Data(train=make if make is generator else make(), val_fraction=0.5)
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


def test_rows_of_a_batch() -> None:
    assert batch_rows((tf.zeros((4, 2)), tf.zeros(3))) == 4
    assert batch_rows({"a": tf.zeros((5, 1))}) == 5
    assert batch_rows(tf.constant(1.0)) == 1


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
