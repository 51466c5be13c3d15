"""Averages of weights, alone and in a run that is killed; each against NumPy."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from averaged import Halves, Recorder, fit, normed, plain_data
from helpers import Net, blobs, busy_data, differing, make_trainer

from framework import Callback, Data, Trainer
from framework.callbacks.ema import EMA
from framework.callbacks.freeze import Freeze
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.callbacks.swa import SWA
from framework.schedules import WarmupCosine


def adam(rate: float = 0.02, **options: Any) -> Callable[[], keras.Optimizer]:
    return lambda: keras.optimizers.Adam(rate, **options)


def named(average: Any) -> dict[str, np.ndarray]:
    """An average's values by the path of what it averages."""
    pairs = zip(average.sources, average.copies, strict=True)
    return {source.path: copy.numpy() for source, copy in pairs}


def by_path(model: keras.Model, weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {v.path: w for v, w in zip(model.weights, weights, strict=True)}


def loss_of(model: keras.Model, weights: dict[str, np.ndarray], rows: Any) -> float:
    """The mean cross entropy with other weights, computed outside of the framework."""
    former = model.get_weights()
    model.set_weights([weights[v.path] for v in model.weights])
    x, y = rows
    logits = np.asarray(model(x, training=False), "f8")
    model.set_weights(former)
    top = logits.max(1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return float(-logs[np.arange(len(y)), y].mean())


# ---- exponential moving average


@cache
def without_ema(precision: str) -> list[np.ndarray]:
    task = Net(normed, optimizer=adam())
    fit(task, precision=precision, val_every=None)
    return list(task.model.get_weights())


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("batch_stats", [True, False])
def test_ema_is_the_recurrence_and_is_what_is_judged(batch_stats: bool, precision: str) -> None:
    task, recorder, ema = Net(normed, optimizer=adam()), Recorder(), EMA(0.8, batch_stats)
    trainer = fit(task, recorder, ema, precision=precision)
    wanted = by_path(task.model, recorder.first)
    for weights in recorder.steps:
        for path, value in by_path(task.model, weights).items():
            statistic = "moving" in path
            keep = 0.0 if statistic and not batch_stats else 0.8
            wanted[path] = wanted[path].astype("f8") * keep + value * (1 - keep)
    found = named(ema.average)
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=1e-6, err_msg=path)
        assert found[path].dtype == np.float32

    exact = 1e-5 if precision == "float32" else 1e-2
    own = by_path(task.model, task.model.get_weights())
    expected, raw = (loss_of(task.model, w, blobs(24, seed=1)) for w in (wanted, own))
    assert abs(expected - raw) > 0.01
    assert trainer.metrics["val/loss"] == pytest.approx(expected, rel=exact)
    # A stage of its own goes on with the average that training has made.
    assert trainer.validate(task, plain_data())["val/loss"] == trainer.metrics["val/loss"]
    logits = trainer.predict(task, Data(predict=blobs(24, seed=1)[0]))
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(keras_loss(blobs(24, seed=1)[1], logits)) == pytest.approx(expected, rel=exact)

    # Training never sees it, and the weights come back with the bits of a run without it.
    for mine, other in zip(task.model.weights, without_ema(precision), strict=True):
        assert mine.numpy().tobytes() == other.tobytes(), mine.path


def test_ema_skips_an_update_that_overflowed() -> None:
    class Overflowing(Net):
        def train_step(self, batch: Any) -> Any:
            loss = tf.cast(super().train_step(batch), tf.float32)
            return loss * tf.where(self.global_step == 2, np.inf, 1.0)

    task, recorder, ema = Overflowing(optimizer=adam()), Recorder(), EMA(0.8)
    fit(task, recorder, ema, precision="mixed_float16", max_epochs=1, val_every=None)
    wanted = recorder.first
    for step in (0, 1, 3):
        wanted = [0.8 * a + 0.2 * w for a, w in zip(wanted, recorder.steps[step], strict=True)]
    assert recorder.steps[1][0].tobytes() == recorder.steps[2][0].tobytes()
    for value, expected in zip(named(ema.average).values(), wanted, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)


def test_ema_without_evaluation_leaves_the_numbers_alone() -> None:
    plain = fit(Net(normed, optimizer=adam()))
    task, ema = Net(normed, optimizer=adam()), EMA(0.8, evaluate=False)
    assert fit(task, ema).metrics == plain.metrics
    assert (named(ema.average)["sequential/dense/bias"] != task.model.weights[1].numpy()).any()


def test_ema_goes_through_a_checkpoint_into_a_test_of_another_process(tmp_path: Path) -> None:
    data = plain_data(test=blobs(40, seed=2))
    task, ema = Net(normed, optimizer=adam()), EMA(0.9)
    # Frozen or not, now or then: neither changes which value is whose.
    trainer = fit(task, Freeze("dense", until=2), ema, data=data, run_dir=tmp_path)
    own = trainer.test(task, data)
    expected = loss_of(task.model, named(ema.average), data.test)
    assert own["test/loss"] == pytest.approx(expected, rel=1e-5)
    other, again = Net(normed), EMA(0.9)
    tester = make_trainer(callbacks=[again], run_dir=tmp_path)
    assert tester.test(other, data, checkpoint="last") == own
    for left, right in zip(named(again.average).values(), named(ema.average).values(), strict=True):
        assert left.tobytes() == right.tobytes()
    for left, right in zip(other.model.weights, task.model.weights, strict=True):
        assert left.numpy().tobytes() == right.numpy().tobytes()
    raw = make_trainer(run_dir=tmp_path).test(Net(normed), data, checkpoint="last")
    assert raw["test/loss"] != own["test/loss"]


# ---- stochastic weight averaging


@pytest.mark.parametrize(("start", "batch_stats"), [(2, True), (0.5, True), (2, False)])
def test_swa_is_the_mean_of_the_last_epochs(start: float, batch_stats: bool) -> None:
    task, recorder, swa = Net(normed, optimizer=adam()), Recorder(), SWA(start, batch_stats)
    trainer = fit(task, recorder, swa, max_epochs=4)
    mean = [np.mean(kept, 0, "f8") for kept in zip(*recorder.epochs[2:], strict=True)]
    wanted = by_path(task.model, mean)
    if not batch_stats:
        own = by_path(task.model, task.model.get_weights())
        assert not any("moving" in path for path in named(swa.average))
        wanted |= {path: value for path, value in own.items() if "moving" in path}
    for path, value in named(swa.average).items():
        np.testing.assert_allclose(value, wanted[path], rtol=1e-5, atol=1e-7, err_msg=path)
    rows = blobs(24, seed=1)
    expected = loss_of(task.model, wanted, rows)
    assert trainer.metrics["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.validate(task, plain_data())["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert (
        abs(loss_of(task.model, by_path(task.model, recorder.epochs[-1]), rows) - expected) > 1e-4
    )


def test_before_its_start_swa_judges_the_weights_themselves() -> None:
    early = fit(Net(normed, optimizer=adam()), SWA(5), max_epochs=2)
    assert early.metrics == fit(Net(normed, optimizer=adam()), max_epochs=2).metrics


@pytest.fixture(scope="module")
def averaged() -> Trainer:
    """Four epochs, of which the last three are averaged."""
    return fit(Net(normed, optimizer=adam()), SWA(1), max_epochs=4)


class Signal(Callback):
    """SIGTERM after a batch, or while a validation begins."""

    def __init__(self, step: int, moment: str = "batch") -> None:
        self.step, self.moment = step, moment

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self._at("batch", trainer)

    def on_validation_start(self, trainer: Trainer) -> None:
        self._at("validation", trainer)

    def _at(self, moment: str, trainer: Trainer) -> None:
        if (moment, trainer.progress.step) == (self.moment, self.step):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("step", "moment"), [(11, "batch"), (12, "batch"), (12, "validation")])
def test_swa_takes_no_epoch_twice_and_leaves_none_out(
    step: int, moment: str, averaged: Trainer, tmp_path: Path
) -> None:
    limits = {"max_epochs": 4, "run_dir": tmp_path}
    with pytest.raises(SystemExit):
        fit(Net(normed, optimizer=adam()), SWA(1), Signal(step, moment), **limits)
    swa = SWA(1)
    again = fit(Net(normed, optimizer=adam()), swa, **limits)
    assert swa.average.count == 3
    assert differing(averaged, again) == []
    assert again.metrics == pytest.approx(averaged.metrics, rel=1e-12)


# ---- all of it, killed and continued


def with_all_of_it(epochs: int, run_dir: Path | None, *more: Callback) -> tuple[Trainer, Any]:
    schedule = WarmupCosine(0.02, warmup=10, total=70)
    task = Halves(lambda: keras.optimizers.AdamW(schedule), adam(0.02))
    options = {"patience": 1, "min_delta": 0.05, "cooldown": 1, "factor": 0.5}
    plateau = ReduceOnPlateau("val/loss", **options, optimizer="head")
    callbacks = [EMA(0.9), plateau, Freeze("dense", until=1), SWA(1), *more]
    limits = {"max_epochs": epochs, "run_dir": run_dir, "log_every": "5st"}
    return fit(task, *callbacks, data=busy_data(), **limits), plateau


@pytest.fixture(scope="module")
def unbroken() -> tuple[Trainer, Any]:
    return with_all_of_it(4, None)


@pytest.mark.parametrize(("step", "moment"), [(17, "batch"), (26, "validation")])
def test_a_killed_run_with_all_of_it_ends_with_the_unbroken_bits(
    step: int, moment: str, unbroken: tuple[Trainer, Any], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        with_all_of_it(3, tmp_path, Signal(step, moment))
    (whole, plateau), (trainer, again) = unbroken, with_all_of_it(4, tmp_path)
    assert trainer.progress.step == whole.progress.step == 52
    assert differing(whole, trainer) == []
    assert again.state() == plateau.state()
    assert trainer.metrics == pytest.approx(whole.metrics, rel=1e-12)
    assert float(trainer.optimizers["head"].learning_rate.numpy()) < 0.02
