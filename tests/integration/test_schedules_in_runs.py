"""Schedules and an optimizer's own options, through what they do to weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from averaged import STEPS, Recorder, closed_form, fit, sgd
from helpers import Net, blobs

from framework import Data, Task
from framework.schedules import WarmupCosine

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
