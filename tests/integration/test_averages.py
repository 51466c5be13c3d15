"""The automatic extras: averages, plateaus, freezing, schedules, decay; each against NumPy."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from cli_project import Run, project, run
from helpers import (
    FEATURES,
    Net,
    blobs,
    busy_data,
    cross_entropy,
    dense,
    differing,
    make_trainer,
    noisy,
)
from hydra.utils import get_object

from framework import Callback, Data, Task, Trainer, UserError
from framework.callbacks.ema import EMA
from framework.callbacks.freeze import Freeze
from framework.callbacks.learning_rate import LearningRateMonitor
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.callbacks.swa import SWA
from framework.cli.groups.schedule_choices import SCHEDULES
from framework.schedules import WarmupCosine, bind_schedules

__all__ = ["project", "run"]

STEPS = 4  # in an epoch of `plain_data`


class Recorder(Callback):
    """Keeps the weights before the first step, after every step, and after every epoch."""

    def __init__(self) -> None:
        self.steps: list[list[np.ndarray]] = []
        self.epochs: list[list[np.ndarray]] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.first = trainer.task.model.get_weights()

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.steps.append(trainer.task.model.get_weights())

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.epochs.append(trainer.task.model.get_weights())


def normed() -> keras.Model:
    """Weights and batch-norm statistics, without dropout: what it computes is a function."""
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(3)])


def plain_data(**changes: Any) -> Data:
    """4 batches of 8 rows, in the same order in every epoch."""
    options = {"batch_size": 8, "shuffle": False, "val": blobs(24, seed=1), **changes}
    return Data(train=blobs(8 * STEPS), **options)


def adam(rate: float = 0.02, **options: Any) -> Callable[[], keras.Optimizer]:
    return lambda: keras.optimizers.Adam(rate, **options)


def sgd(rate: Any = 0.1, **options: Any) -> Callable[[], keras.Optimizer]:
    return lambda: keras.optimizers.SGD(rate, **options)


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


def fit(task: Task, *callbacks: Callback, data: Data | None = None, **options: Any) -> Trainer:
    trainer = make_trainer(callbacks=callbacks, **{"max_epochs": 3, **options})
    trainer.fit(task, data or plain_data())
    return trainer


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


# ---- reduce on plateau


class Told(Net):
    """Validations come out as it is told, one value after the other."""

    values: Sequence[float] = ()

    def eval_step(self, batch: Any) -> None:
        number = tf.cast(self.global_step // STEPS - 1, tf.int32)
        self.log("loss", tf.gather(tf.constant(self.values, tf.float64), number))


class Rates(Callback):
    """Keeps the learning rate after every epoch."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.found.append(float(trainer.optimizers["optimizer"].learning_rate.numpy()))


FLAT = [1.0, 0.5, 0.5, 0.5, 0.49, 0.48999, 0.5, 0.6, 0.6, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5, "min_delta": 0.0},
        {"patience": 2, "cooldown": 3, "min_delta": 0.02},
        {"patience": 1, "min_learning_rate": 0.005},
        {"patience": 2, "mode": "max", "cooldown": 1},
    ],
)
def test_a_plateau_is_what_keras_calls_one(options: dict[str, Any]) -> None:
    theirs = {k.replace("learning_rate", "lr"): v for k, v in options.items()}
    judge = keras.callbacks.ReduceLROnPlateau(**{"min_delta": 1e-4, "factor": 0.1, **theirs})
    model = dense()
    model.compile(sgd(0.1)(), "mse")
    judge.set_model(model)
    judge.on_train_begin()
    wanted = []
    for epoch, value in enumerate(FLAT):
        judge.on_epoch_end(epoch, {"val_loss": value})
        wanted.append(float(model.optimizer.learning_rate.numpy()))
    assert len(set(wanted)) > 1

    task, rates = Told(optimizer=sgd(0.1)), Rates()
    task.values = FLAT
    fit(task, ReduceOnPlateau(**options), rates, max_epochs=len(FLAT))
    assert rates.found == wanted


def test_a_plateau_of_one_of_two_optimizers() -> None:
    task = Halves(sgd(0.1), sgd(0.1))
    trainer = fit(
        task,
        ReduceOnPlateau("train/loss", patience=1, min_delta=10.0, factor=0.5, optimizer="head"),
        LearningRateMonitor(),
        max_epochs=3,
    )
    # The second and the third epoch are judged, each after its row was logged.
    assert trainer.metrics["train/learning_rate/head"] == pytest.approx(0.05)
    assert trainer.metrics["train/learning_rate/body"] == pytest.approx(0.1)
    rates = {k: float(o.learning_rate.numpy()) for k, o in trainer.optimizers.items()}
    assert rates == pytest.approx({"head": 0.025, "body": 0.1})


class Halves(Net):
    """An optimizer for the hidden part of `normed`, another one for its output."""

    def __init__(self, body: Any, head: Any) -> None:
        super().__init__(normed)
        self._pair = body, head

    def configure_optimizers(self) -> Any:
        *body, head = self.model.layers
        return {"body": (self._pair[0](), body), "head": (self._pair[1](), head)}


# ---- freezing


def frozen_at(recorder: Recorder, model: keras.Model) -> dict[str, list[bool]]:
    """Whether each weight kept its bits in each epoch."""
    states = [recorder.first, *recorder.epochs]
    return {
        v.path: [a[i].tobytes() == b[i].tobytes() for a, b in pairwise(states)]
        for i, v in enumerate(model.weights)
    }


def decaying() -> keras.Optimizer:
    return keras.optimizers.AdamW(0.02, weight_decay=0.1)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_frozen_weights_keep_their_bits_until_they_are_let_go(engine: str) -> None:
    recorder = Recorder()
    task = Net(normed, optimizer=decaying)
    trainer = fit(task, recorder, Freeze(["dense", "batch*"], until=2), engine=engine)
    kept = frozen_at(recorder, task.model)
    for path, epochs in kept.items():
        # Batch norm renews no statistics while it is frozen.
        assert epochs == ([False] * 3 if "/dense_1/" in path else [True, True, False]), path
    assert all(v.trainable for v in task.model.trainable_variables)
    assert len(task.model.trainable_variables) == 6
    assert len(trainer.optimizers["optimizer"]._trainable_variables) == 6


def test_what_is_frozen_learns_afterwards_as_if_it_had_just_begun() -> None:
    # After the release: the same steps as in a run that starts from there with fresh slots for
    # the first layer. Without momentum there are none, so the whole run is simple arithmetic.
    recorder = Recorder()
    task = Net(normed, optimizer=sgd(0.1))
    fit(task, recorder, Freeze("batch_normalization", until=1), Freeze("dense", until=2))
    x, y = blobs(8 * STEPS)
    model = normed()
    model.set_weights(recorder.first)
    hidden, norm, _ = model.layers
    for step in range(3 * STEPS):
        epoch, rows = step // STEPS, slice(step % STEPS * 8, (step % STEPS + 1) * 8)
        norm.trainable, hidden.trainable = epoch >= 1, epoch >= 2
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(y[rows], model(x[rows], training=True)))
        weights = model.trainable_variables
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.1 * gradient)
    for mine, bare in zip(task.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, bare, rtol=1e-4, atol=1e-6)


def test_frozen_for_ever_and_a_run_that_goes_on(tmp_path: Path) -> None:
    recorder = Recorder()
    task = Net(normed, optimizer=decaying)
    fit(task, recorder, Freeze("dense"))
    assert frozen_at(recorder, task.model)["sequential/dense/kernel"] == [True, True, True]
    # Cut anywhere, before or after the release, the bits are those of the unbroken run.
    whole = fit(Net(normed, optimizer=decaying), Freeze("dense", until=1), data=busy_data())
    for epochs in (1, 3):
        task = Net(normed, optimizer=decaying)
        freeze, limit = Freeze("dense", until=1), {"max_epochs": epochs, "run_dir": tmp_path}
        parts = fit(task, freeze, data=busy_data(), **limit)
    assert differing(whole, parts) == []


def nested() -> keras.Model:
    inner = [keras.Input((FEATURES,)), *(keras.layers.Dense(4, name=name) for name in "ab")]
    backbone = keras.Sequential(inner, name="backbone")
    return keras.Sequential([keras.Input((FEATURES,)), backbone, keras.layers.Dense(3, name="c")])


def trained(models: Any) -> set[str]:
    """The weights that would be trained, by model, layer and name."""
    pairs = models.items() if isinstance(models, dict) else [("", models)]
    return {
        f"{name} {weight.path.split('/')[-2]} {weight.name}".strip()
        for name, model in pairs
        for weight in model.trainable_variables
    }


def at_setup(freeze: Freeze, models: Any) -> set[str]:
    """What is frozen by the hook, whose counterpart puts everything back."""
    before = trained(models)
    run: Any = SimpleNamespace(stage="fit", task=SimpleNamespace(model=models))
    freeze.on_setup(run)
    found = before - trained(models)
    freeze.on_fit_end(run)
    assert trained(models) == before
    return found


@pytest.mark.parametrize(
    ("several", "options", "frozen"),
    [
        (False, {"layers": "backbone"}, {"a", "b"}),
        (False, {"layers": "backbone/*"}, {"a", "b"}),
        (False, {"layers": "backbone/a"}, {"a"}),
        (False, {"layers": ["b", "c"]}, {"b", "c"}),
        (False, {"layers": "[ab]"}, {"a", "b"}),
        (True, {"layers": "two"}, {"two a", "two b", "two c"}),
        (True, {"layers": "*/c"}, {"one c", "two c"}),
        (True, {"layers": ["one/backbone", "two/b"]}, {"one a", "one b", "two b"}),
        (True, {"layers": "a", "model": "one"}, {"one a"}),
    ],
)
def test_layers_are_found_by_name(several: bool, options: dict[str, Any], frozen: set[str]) -> None:
    found = at_setup(Freeze(**options), {"one": nested(), "two": nested()} if several else nested())
    assert found == {f"{layer} {weight}" for layer in frozen for weight in ("kernel", "bias")}


def test_what_was_frozen_by_hand_stays_frozen() -> None:
    model = nested()
    model.get_layer("backbone").get_layer("a").trainable = False
    model.get_layer("backbone").get_layer("b").kernel.trainable = False
    assert at_setup(Freeze("backbone", until=1), model) == {"b bias"}


# ---- schedules, through what they do to weights


class Slope(Task):
    """Every gradient is 1: each step moves the weight by the learning rate, and tells it."""

    def build_model(self) -> Any:
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((1,)), layer])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean(self.model(batch, training=True))

    def eval_step(self, batch: Any) -> None:
        self.log("loss", self.model(batch))


def rates_of(schedule: Any, epochs: int = 4, steps: int = 10, **options: Any) -> np.ndarray:
    """The rate of every update of a real run."""
    task, recorder = Slope(optimizer=sgd(schedule)), Recorder()
    data = Data(train=np.ones((steps, 1)), batch_size=1)
    fit(task, recorder, data=data, max_epochs=epochs, precision="float64", **options)
    return -np.diff(np.ravel([recorder.first, *recorder.steps]))


def closed_form(peak: float, warm: int, end: float, total: int, at: np.ndarray) -> np.ndarray:
    done = np.clip((at - warm) / (total - warm), 0, 1)
    cosine = end + (peak - end) * (1 + np.cos(np.pi * done)) / 2
    return np.where(at < warm, peak * at / max(warm, 1), cosine)


@pytest.mark.parametrize(
    ("options", "warm", "end", "total"),
    [
        ({"warmup": 8}, 8, 0.0, 40),
        ({"warmup": 0.25, "end": 0.01}, 10, 0.01, 40),
        ({"warmup": 0}, 0, 0.0, 40),
        ({"warmup": 0.1, "total": 30, "end": 0.02}, 3, 0.02, 30),
        ({"total": 100}, 5, 0.0, 100),
    ],
)
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_warmup_and_cosine_by_step(
    options: dict[str, Any], warm: int, end: float, total: int, engine: str
) -> None:
    found = rates_of(WarmupCosine(0.3, **options), engine=engine)
    wanted = closed_form(0.3, warm, end, total, np.arange(40))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_warmup_and_cosine_by_epoch() -> None:
    found = rates_of(WarmupCosine(0.3, warmup=20, end=0.02, by="epoch"), epochs=6)
    starts = np.arange(60) // 10 * 10
    wanted = closed_form(0.3, 20, 0.02, 60, starts)
    wanted[:20] = 0.3 * (starts[:20] + 10) / 20  # by the end of each warm-up epoch
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert len(set(found.round(9))) == 5


def test_a_schedule_counts_updates_not_batches_and_survives_keras() -> None:
    found = rates_of(WarmupCosine(0.3, warmup=4), steps=12, accumulate=3)
    np.testing.assert_allclose(found, closed_form(0.3, 4, 0.0, 16, np.arange(16)), atol=1e-12)
    schedule = WarmupCosine(0.3, warmup=4, end=0.1, total=20)
    copy = keras.optimizers.SGD.from_config(sgd(schedule)().get_config())._learning_rate
    assert isinstance(copy, WarmupCosine)
    assert copy.get_config() == schedule.get_config()
    assert float(copy(7)) == float(schedule(7)) == pytest.approx(
        closed_form(0.3, 4, 0.1, 20, np.array(7.0)).item(), rel=1e-6
    )  # fmt: skip


def test_every_schedule_counts_its_own_optimizers_updates() -> None:
    class Uneven(Slope):
        automatic_optimization = False

        def build_model(self) -> Any:
            return {"one": super().build_model(), "two": super().build_model()}

        def configure_optimizers(self) -> Any:
            return {name: sgd(WarmupCosine(0.3, warmup=4, total=40))() for name in self.model}

        def train_step(self, batch: Any) -> Any:
            for name in ("one", "one", "two"):
                self.minimize(lambda name=name: tf.reduce_mean(self.model[name](batch)), name)

    task = Uneven()
    fit(task, data=Data(train=np.ones((10, 1)), batch_size=1), max_epochs=1, precision="float64")
    for name, updates in (("one", 20), ("two", 10)):
        wanted = closed_form(0.3, 4, 0.0, 40, np.arange(updates)).sum()
        assert -task.model[name].get_weights()[0].item() == pytest.approx(wanted, rel=1e-12)


# ---- weight decay and clipping of an optimizer's own


def softmax_gradient(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    kernel, bias = weights
    logits = x @ kernel + bias
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    chance[np.arange(len(y)), y] -= 1
    chance /= len(y)
    return [x.T @ chance, chance.sum(0)]


def bare_loop(weights: list[np.ndarray], step: Callable[..., Any], steps: int) -> list[np.ndarray]:
    """Softmax regression in NumPy, in double precision."""
    x, y = blobs(8 * STEPS)
    weights = [w.astype("f8") for w in weights]
    slots: list[dict[str, Any]] = [{"m": 0.0, "v": 0.0} for _ in weights]
    for t in range(steps):
        rows = slice(t % STEPS * 8, (t % STEPS + 1) * 8)
        gradients = softmax_gradient(weights, x[rows].astype("f8"), y[rows])
        weights = step(weights, gradients, slots, t + 1)
    return weights


def adamw_step(weights: Any, gradients: Any, slots: Any, t: int) -> Any:
    new = []
    for w, g, s in zip(weights, gradients, slots, strict=True):
        w = w - 0.05 * 0.1 * w
        s["m"], s["v"] = 0.9 * s["m"] + 0.1 * g, 0.999 * s["v"] + 0.001 * g * g
        rate = 0.05 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        new.append(w - rate * s["m"] / (np.sqrt(s["v"]) + 1e-7))
    return new


def sgd_step(weights: Any, gradients: Any, _: Any, t: int) -> Any:
    return [w - 0.5 * 0.1 * w - 0.5 * g for w, g in zip(weights, gradients, strict=True)]


def clipnorm_step(weights: Any, gradients: Any, *_: Any) -> Any:
    clipped = [g * min(1.0, 0.05 / np.linalg.norm(g)) for g in gradients]
    return [w - 0.5 * g for w, g in zip(weights, clipped, strict=True)]


def global_step(weights: Any, gradients: Any, *_: Any) -> Any:
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [w - 0.5 * g * min(1.0, 0.05 / norm) for w, g in zip(weights, gradients, strict=True)]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("optimizer", "step"),
    [
        (lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1), adamw_step),
        (sgd(0.5, weight_decay=0.1), sgd_step),
        (sgd(0.5, clipnorm=0.05), clipnorm_step),
        (sgd(0.5, global_clipnorm=0.05), global_step),
    ],
    ids=["adamw", "sgd_decay", "clipnorm", "global_clipnorm"],
)
def test_an_optimizers_own_options_against_a_bare_loop(
    optimizer: Any, step: Callable[..., Any], precision: str
) -> None:
    task, recorder = Net(optimizer=optimizer), Recorder()
    fit(task, recorder, max_epochs=5, precision=precision, val_every=None)
    wanted = bare_loop(recorder.first, step, 20)
    exact = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"rtol": 1e-2, "atol": 5e-3}
    for mine, bare in zip(task.model.get_weights(), wanted, strict=True):
        np.testing.assert_allclose(mine, bare, **exact)


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


# ---- bad input


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EMA(1.0), "decay is 1.0"),
        (lambda: EMA(-0.1), "decay is -0.1"),
        (lambda: EMA("a"), "decay is 'a'"),
        (lambda: SWA(1.0), "start is 1.0"),
        (lambda: SWA(-1), "start is -1"),
        (lambda: SWA(float("nan")), "start is nan"),
        (lambda: SWA(True), "start is True"),
        (lambda: ReduceOnPlateau("loss"), "val/loss or train/loss"),
        (lambda: ReduceOnPlateau(mode="mox"), "Did you mean 'max'"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor is 1.0"),
        (lambda: ReduceOnPlateau(patience=0), "patience is 0"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown is -1"),
        (lambda: ReduceOnPlateau(min_delta=-1.0), "min_delta is -1.0"),
        (lambda: ReduceOnPlateau(min_learning_rate=-1.0), "min_learning_rate is -1.0"),
        (lambda: Freeze(), "layers is ''"),
        (lambda: Freeze([]), "layers is []"),
        (lambda: Freeze("a", until=0), "until is 0"),
        (lambda: Freeze("a", until=1.5), "until is 1.5"),
        (lambda: WarmupCosine(0.0), "peak is 0.0"),
        (lambda: WarmupCosine("a"), "peak is 'a'"),
        (lambda: WarmupCosine(0.1, warmup=1.0), "warmup is 1.0"),
        (lambda: WarmupCosine(0.1, warmup=-1), "warmup is -1"),
        (lambda: WarmupCosine(0.1, end=0.2), "end is 0.2"),
        (lambda: WarmupCosine(0.1, by="steps"), "Did you mean 'step'"),
        (lambda: WarmupCosine(0.1, total=0), "total is 0"),
        (lambda: WarmupCosine(0.1)(0), "does not know how long the run is"),
        (lambda: WarmupCosine(0.1, by="epoch", total=9)(0), "how long an epoch is"),
        (lambda: bind_schedules({"o": sgd(WarmupCosine(0.1))()}, None, 3), "steps in all"),
        (lambda: bind_schedules({"o": sgd(WarmupCosine(1, by="epoch"))()}, 3, None), "by epochs"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        make()
    assert said in str(error.value)
    assert error.value.where
    assert error.value.fix


def stream() -> Any:
    yield blobs(8)


SCHEDULED = {"optimizer": sgd(WarmupCosine(0.1, total=9))}


@pytest.mark.parametrize(
    ("task", "callback", "options", "said"),
    [
        ({}, SWA(0.5), {"max_epochs": None, "max_steps": 3}, "a fraction of max_epochs"),
        ({}, ReduceOnPlateau(optimizer="optimiser"), {}, "Did you mean 'optimizer'"),
        ({}, ReduceOnPlateau("val/lozz"), {}, "Did you mean 'val/loss'"),
        (SCHEDULED, ReduceOnPlateau(), {}, "follows a schedule"),
        ({}, Freeze("dence"), {}, "Did you mean 'dense'"),
        ({}, Freeze("dense", model="modle"), {}, "Did you mean 'model'"),
        ({"build": noisy}, Freeze("dropout"), {}, "nothing to freeze in dropout"),
        ({"optimizer": sgd(WarmupCosine(0.1))}, EMA(), {"data": Data(train=stream)}, "in all"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(
    task: dict[str, Any], callback: Callback, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        fit(Net(**{"build": normed, **task}), callback, **options)
    assert said in str(error.value)


# ---- the command line


def test_schedules_have_the_arguments_and_defaults_of_what_they_build() -> None:
    for node in filter(None, SCHEDULES.values()):
        options = dict(vars(node()))
        wanted = dict(inspect.signature(get_object(options.pop("_target_"))).parameters)
        wanted.pop("name", None)
        assert options.keys() == wanted.keys()
        for option, value in options.items():
            required = wanted[option].default is inspect.Parameter.empty
            assert value in (None, "???") if required else value == wanted[option].default


def test_a_schedule_is_the_optimizers_learning_rate(run: Run, project: Path) -> None:
    words = ["schedule=warmup_cosine", "schedule.warmup=4", "optimizer.learning_rate=3e-3"]
    more = ["callbacks=[learning_rate_monitor]", "trainer.log_every=1st", "trainer.max_epochs=2"]
    code, _, err = run("task=mine", "run_dir=a", *words, *more)
    assert code == 0, err
    head, *rows = [line.split(",") for line in Path("a/metrics.csv").read_text().splitlines()]
    found = [float(row[head.index("train/learning_rate")]) for row in rows if int(row[0]) < 20]
    wanted = closed_form(3e-3, 4, 0.0, 20, np.arange(1, 20))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)

    def rate(*more: str) -> Any:
        code, _, err = run("task=parts", "trainer.fast_dev_run=true", *more)
        assert code == 0, err
        return sys.modules["cliproj.mine"].Parts.seen["optimizer"]()._learning_rate

    decay = rate("schedule=exponential_decay", "schedule.decay_steps=10", "schedule.decay_rate=0.5")
    assert float(decay(20)) == pytest.approx(0.01 / 4)  # the rate is SGD's own
    peak = rate("schedule=warmup_cosine", "schedule.peak=0.7", "schedule.by=epoch")
    assert (peak.peak, peak.by) == (0.7, "epoch")
    steps = rate(
        "schedule=piecewise_constant_decay", "schedule.boundaries=[2]", "schedule.values=[1,0.5]"
    )
    assert [float(steps(t)) for t in (2, 3)] == [1.0, 0.5]
    cosine = rate("schedule=cosine_decay", "schedule.decay_steps=10", "optimizer.learning_rate=0.2")
    assert float(cosine(5)) == pytest.approx(0.1)
    assert isinstance(rate("schedule=none"), keras.Variable)


def test_callbacks_by_name(run: Run, project: Path) -> None:
    chosen = ["callbacks=[ema,swa,reduce_on_plateau]", "callbacks.ema.decay=0.5"]
    chosen += ["callbacks.swa.start=0", "callbacks.reduce_on_plateau.patience=2"]
    found = {}
    for run_dir, words in {"with": chosen, "without": []}.items():
        limits = [f"run_dir={run_dir}", "trainer.max_epochs=2"]
        code, _, err = run("task=mine", *limits, *words)
        assert code == 0, err
        metrics = json.loads(Path(run_dir, "result.json").read_text())["metrics"]
        found[run_dir] = f"test/loss {metrics['test/loss']:.4f}"
        # Another process judges the same average.
        code, out, err = run("task=mine", *limits, *words, "mode=test", "checkpoint=last")
        assert code == 0, err
        assert found[run_dir] in out
    assert found["with"] != found["without"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=closed", "schedule=warmup_cosine"], "Closed takes no optimizer: schedule="),
        (["task=tuned", "schedule=warmup_cosine"], "does not use self.optimizer: schedule="),
        (["task=mine", "optimizer=none", "schedule=warmup_cosine"], "but no optimizer"),
        (["task=mine", "schedule=warmup_cosin"], "'warmup_cosine'"),
        (["task=mine", "schedule.warmup=3"], "schedule=<warmup_cosine"),
        (["task=mine", "schedule=warmup_cosine", "schedule.warmup=a"], "schedule.warmup"),
        (["task=mine", "schedule=warmup_cosine", "schedule.by=day"], "by is 'day'"),
        (["task=mine", "schedule=warmup_cosine", "optimizer.learning_rate=a"], "is not a number"),
        (["task=mine", "schedule=cosine_decay"], "schedule.decay_steps"),
        (["task=mine", "callbacks=freeze"], "layers is ''"),
        (["task=mine", "callbacks=freeze", "callbacks.freeze.layers=dence"], "'dense'"),
        (["task=mine", "callbacks=swa", "callbacks.swa.start=1.5"], "start is 1.5"),
        (["task=mine", "callbacks=reduce_on_plateau", "schedule=warmup_cosine"], "a schedule"),
    ],
)
def test_a_mistake_on_the_command_line(run: Run, words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert (code, "Traceback" in out + err) == (2, False)
    assert said in err


def test_help_and_cfg_show_them(run: Run) -> None:
    code, out, _ = run("--help", plain=True)
    assert code == 0
    assert "schedule     none, warmup_cosine, exponential_decay" in out
    assert "early_stopping, ema, swa, reduce_on_plateau, freeze" in out
    code, out, _ = run("--cfg", "job", "task=mine", "schedule=warmup_cosine", plain=True)
    assert code == 0
    assert "peak: null" in out
