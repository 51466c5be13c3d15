"""Accumulated batches and clipped gradients, against the same numbers by hand."""

from __future__ import annotations

import keras
import manual_tasks as mt
import numpy as np
import pytest
import tensorflow as tf
from bare_loops import bare_classify, bare_cycle, check, learnt, train
from bare_parts import BATCH, ROWS, STEPS, gaps
from helpers import LogRows

from framework import Callback, Data, Task, Trainer

engines = pytest.mark.parametrize("engine", ["graph", "eager"])


# ---- accumulation


@engines
@pytest.mark.parametrize("stream", [False, True])
def test_accumulating_four_batches_equals_one_four_times_as_large(
    stream: bool, engine: str
) -> None:
    expected, rows = bare_classify((4 * BATCH,)), LogRows()
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    data = Data(train=mt.BLOBS, batch_size=BATCH, shuffle=False)
    if stream:
        data = Data(train=tf.data.Dataset.from_tensor_slices(mt.BLOBS).batch(BATCH))
    options = {"engine": engine, "log_every": "1st", "callbacks": [rows], "log_grad_norm": True}
    trainer = train(task, data, accumulate=4, **options)
    check(task, expected)
    assert max(gaps(learnt(task), bare_classify().final).values()) > 1e-2
    assert stream or trainer.steps_per_epoch == 3  # of 32, 32 and 13 rows
    assert trainer.progress.examples == sum(rows for rows, _, _ in expected.values)
    assert task.seen <= {BATCH, ROWS % BATCH, None}
    assert BATCH in task.seen
    # A stream whose end shows only when it is reached logs the epoch in a row of its own.
    logged = [(step, row) for step, row in rows.rows if "train/loss" in row]
    for (step, row), (_, loss, norm) in zip(logged, expected.values, strict=True):
        assert row["train/loss"] == pytest.approx(loss, 1e-4), step
        assert row["train/grad_norm"] == pytest.approx(norm, 1e-3), step
    final = expected.values[-2:]  # the last epoch was cut after two steps
    assert trainer.metrics["train/loss"] == pytest.approx(np.mean([loss for _, loss, _ in final]))


class Lengths(Callback):
    """Keeps the steps of each epoch, those done after it, and those planned in all."""

    def __init__(self) -> None:
        self.found: list[tuple[int | None, int, int | None]] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.found.append((trainer.steps_per_epoch, trainer.progress.step, trainer.total_steps))


def test_an_accumulated_stream_of_known_length_has_a_known_length() -> None:
    data = Data(train=tf.data.Dataset.from_tensor_slices(mt.BLOBS).batch(BATCH))
    lengths = Lengths()
    trainer = train(
        mt.Classify(), data, accumulate=4, max_epochs=3, max_steps=7, callbacks=[lengths]
    )
    assert [(length, step) for length, step, _ in lengths.found[:2]] == [(3, 3), (3, 6)]
    assert trainer.steps_per_epoch == 3  # in the third epoch, with two of them run


@engines
def test_accumulation_by_epoch(engine: str) -> None:
    steps = 2 * 10 + 3
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    data = Data(train=mt.BLOBS, batch_size=BATCH, shuffle=False)
    lengths = Lengths()
    options = {"engine": engine, "accumulate": {0: 1, 2: 4}, "callbacks": [lengths]}
    train(task, data, max_epochs=3, max_steps=steps, **options)
    check(task, bare_classify((BATCH, BATCH, 4 * BATCH), None, None, steps))
    assert lengths.found == [(10, 10, steps), (10, 20, steps), (3, 23, steps)]


# ---- clipping and gradient norms


@engines
@pytest.mark.parametrize("kind", [mt.Classify, mt.ClassifyByHand])
@pytest.mark.parametrize(("option", "limit"), [("clip_norm", 0.5), ("clip_value", 0.1)])
def test_clipping_and_the_norm_before_it(
    option: str, limit: float, kind: type[Task], engine: str
) -> None:
    task, rows = kind(optimizer=keras.optimizers.Adam(0.01)), LogRows()
    options = {option: limit, "log_grad_norm": True, "log_every": "1st", "callbacks": [rows]}
    train(task, mt.BLOBS, engine=engine, **options)
    norm, value = (limit, None) if option == "clip_norm" else (None, limit)
    expected = bare_classify((BATCH,), norm, value)
    check(task, expected)
    assert max(gaps(learnt(task), bare_classify().final).values()) > 1e-3  # it does show
    lengths = [norm for _, _, norm in expected.values]
    assert [row["train/grad_norm"] for _, row in rows.rows] == pytest.approx(lengths, 1e-4)
    assert max(lengths) > 0.5


def test_each_loss_is_clipped_by_itself() -> None:
    task, rows = mt.Cycle("dict"), LogRows()
    options = {"clip_norm": 0.5, "log_grad_norm": True, "log_every": "1st", "callbacks": [rows]}
    train(task, mt.CYCLE_DATA, **options)
    expected = bare_cycle(True, 0.5)
    check(task, expected)
    assert min(gaps(learnt(task), bare_cycle(True).final).values()) > 1e-4
    assert len(rows.rows) == STEPS
    for (_, row), norms in zip(rows.rows, expected.values, strict=True):
        found = {name: row[f"train/grad_norm/{name}"] for name in norms}
        assert found == pytest.approx(norms, 1e-3)


def test_clipping_sees_the_accumulated_gradient() -> None:
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    train(task, mt.BLOBS, accumulate=4, clip_norm=0.5)
    check(task, bare_classify((4 * BATCH,), 0.5))
    assert max(gaps(learnt(task), bare_classify((4 * BATCH,)).final).values()) > 1e-3
