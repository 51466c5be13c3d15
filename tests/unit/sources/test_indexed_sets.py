"""Sets that are read by row numbers give the batches of arrays, whoever reads them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, bits, blobs, differing, fitted, make_trainer, noisy
from row_sets import ByList, Dies, Fails, OneByOne, Padded, Shrinks

from framework import Data, UserError
from framework.sources.arrays import ArraySource, permutation
from framework.sources.indexed import IndexedSource, is_indexed
from framework.sources.open import open_eval, open_train

X, Y = blobs(43)


def trained(train: Any, **options: Any) -> Any:
    options = {"val_fraction": 0.25, "batch_size": 8, **options}
    return bits(fitted(Net(noisy), Data(train=train, **options), max_epochs=2, val_every="2st"))


@pytest.fixture(scope="module")
def of_arrays() -> Any:
    return trained((X, Y))


@pytest.mark.parametrize("kind", [ByList, OneByOne])
@pytest.mark.parametrize("options", [{}, {"resident": True}])
def test_a_run_has_the_bits_of_one_on_arrays(of_arrays: Any, kind: Any, options: Any) -> None:
    assert differing(of_arrays, trained(kind(X, Y), **options)) == []


def batches(source: Any, epoch: int, start: int) -> list[Any]:
    """Return the batches of an epoch from `start` on as the loop reads them."""
    cursor, found = source.cursor(epoch, start), []
    for first, stop, size in source.parts(start, source.steps):
        for index in range(first, stop):
            with source.reading():
                batch = source.read(cursor, tf.constant(index, tf.int64), size)
            found.append([leaf.numpy() for leaf in tf.nest.flatten(batch)])
            source.moved(index + 1)
    return found


def test_processes_read_the_same_batches_from_any_place() -> None:
    source = open_train(Data(train=ByList(X, Y), batch_size=8, workers=2), seed=7)
    assert isinstance(source, IndexedSource)
    for epoch, start in ((0, 0), (3, 2), (3, 0), (1, 5)):  # forwards, and back again
        order = permutation(43, 7, epoch)
        cut = [order[at : at + 8] for at in range(8 * start, 43, 8)]
        found = batches(source, epoch, start)
        assert len(found) == len(cut)
        for (x, y), rows in zip(found, cut, strict=True):
            np.testing.assert_array_equal(x, X[rows])
            np.testing.assert_array_equal(y, Y[rows])
    first, _ = source.first()  # does not disturb what is read ahead
    np.testing.assert_array_equal(first, X[permutation(43, 7, 0)[:8]])


def test_what_goes_wrong_in_a_process_is_told_here() -> None:
    with pytest.raises(UserError, match="row 30 is damaged") as refused:
        batches(open_train(Data(train=Fails(X, Y), batch_size=8, workers=1), seed=0), 0, 0)
    assert "row_sets.py:" in str(refused.value)
    with pytest.raises(UserError, match="has died"):
        batches(open_train(Data(train=Dies(X, Y), batch_size=8, workers=1), seed=0), 0, 0)


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    rows = ByList(X, Y)
    rows.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="cannot be sent to another process"):
        batches(open_train(Data(train=rows, batch_size=8, workers=1), seed=0), 0, 0)


def test_a_run_goes_on_in_mid_epoch_without_reading_again(tmp_path: Path) -> None:
    asked: list[int] = []

    class Counts(ByList):
        def __getitem__(self, rows: Any) -> Any:
            asked.extend(np.atleast_1d(rows).tolist())
            return super().__getitem__(rows)

    def run(directory: Path | None, most: int) -> Any:
        trainer = make_trainer(max_epochs=2, max_steps=most, run_dir=directory)
        trainer.fit(Net(noisy), Data(train=Counts(X, Y), batch_size=8))
        return bits(trainer)

    whole = run(None, 12)
    run(tmp_path / "run", 9)
    asked.clear()
    assert differing(whole, run(tmp_path / "run", 12)) == []
    # From where it was on, and then ahead; not what the epoch had before.
    done, rest = np.split(permutation(43, 0, 1), [3 * 8])
    joined = " ".join(map(str, asked))
    assert " ".join(map(str, rest)) in joined
    assert " ".join(map(str, done[:8])) not in joined


def test_a_set_that_changes_its_length_is_refused() -> None:
    with pytest.raises(UserError, match="had 42 rows, and now has 41"):
        fitted(Net(), Data(train=Shrinks(X, Y), batch_size=8))


def test_batches_of_several_widths_need_a_signature() -> None:
    signature = (tf.TensorSpec((None, None), tf.float64), tf.TensorSpec((None,), tf.int64))
    data = Data(train=Padded(), batch_size=8, shuffle=False, signature=signature)
    widths = [x.shape for x, _ in batches(open_train(data, seed=0), 0, 0)]
    assert widths == [(8, 5)] * 3
    with pytest.raises(UserError, match="signature"):
        batches(open_train(Data(train=Padded(), batch_size=8), seed=0), 0, 0)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (ByList(X[:0], Y[:0]), "has no rows"),
        (ByList(X, [None] * 43), "returns None in a batch"),  # type: ignore[arg-type]
        (OneByOne(np.array([np.ones(n % 3) for n in range(43)], object), Y), "differ in shape"),
    ],
)
def test_bad_rows_are_refused_by_name(train: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        batches(open_train(Data(train=train, batch_size=8), seed=0), 0, 0)


def test_which_sets_are_read_by_row_numbers() -> None:
    assert is_indexed(ByList(X, Y))
    for other in ((X, Y), {"x": X}, [1, 2], X, tf.constant(X), "text", ByList, lambda: 0):
        assert not is_indexed(other)
    with pytest.raises(UserError, match="workers is -1"):
        Data(train=X, workers=-1)


def test_columns_of_hugging_face_are_arrays_unless_they_are_decoded() -> None:
    # Not "datasets" alone, which may be the folder of tests of that name.
    reason = "Hugging Face's datasets is the user's own"
    sets = pytest.importorskip("datasets.arrow_dataset", reason=reason)
    table = sets.Dataset.from_dict({"x": X, "y": Y})
    same = {"map": lambda batch: (batch["x"], batch["y"]), "batch_size": 8, "shuffle": True}
    (held,) = open_eval(Data(test=table, **same), "test", seed=0).values()
    assert type(held) is ArraySource
    read = open_train(Data(train=table, resident=False, **same), seed=0)
    assert isinstance(read, IndexedSource)
    for source in (open_train(Data(train=table, **same), seed=0), read):
        x, y = batches(source, 2, 0)[0]
        np.testing.assert_array_equal(x, X[permutation(43, 0, 2)[:8]])
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
    doubled = table.with_transform(lambda rows: {"x": np.asarray(rows["x"]) * 2})
    computed = open_train(Data(train=doubled, batch_size=8, shuffle=False), seed=0)
    assert isinstance(computed, IndexedSource)
    np.testing.assert_array_equal(batches(computed, 0, 0)[0][0], 2 * X[:8])


def test_sources_of_grain_are_read_row_by_row() -> None:
    grain = pytest.importorskip("grain", reason="grain is the user's own")
    train = grain.MapDataset.source(ByList(X, Y)).map(lambda row: (row[0] * 2, row[1]))
    source = open_train(Data(train=train, batch_size=8), seed=1)
    np.testing.assert_array_equal(batches(source, 0, 3)[0][0], 2 * X[permutation(43, 1, 0)[24:32]])
