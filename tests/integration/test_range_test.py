"""A range test leaves everything as it was, and a run can use what it finds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net as Plain
from helpers import StopAt, blobs, busy_data, differing, fitted, jitter, make_trainer, noisy

from framework import Data, Task, Trainer, UserError

SGD = partial(keras.optimizers.SGD, 0.05, momentum=0.9)


class Net(Plain):
    """With a Keras metric, unseeded noise, and a state of its own on the host."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(noisy, **parts)
        self.recall, self.seen = keras.metrics.SparseCategoricalAccuracy(), [0]

    def train_step(self, batch: Any) -> tf.Tensor:
        x, y = batch
        loss = super().train_step((x + keras.random.normal(tf.shape(x), stddev=0.01), y))
        self.recall.update_state(y, self.model(x))
        self.log("recall", self.recall)
        return loss

    def state_dict(self) -> Any:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: Any) -> None:
        self.seen[:] = state["seen"]


CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "graph": (SGD, {}),
    "eager": (SGD, {"engine": "eager"}),
    "loop_xla": (SGD, {"engine": "loop_xla"}),
    "mixed_float16": (SGD, {"precision": "mixed_float16", "accumulate": 2}),
    "schedule": (
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 20)),
        {"clip_norm": 1.0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fit_after_it_has_the_bits_of_a_fit_alone(name: str) -> None:
    make, options = CASES[name]
    data, options = busy_data(60), {"max_epochs": 2, **options}
    alone = fitted(Net(optimizer=make), data, **options)
    trainer, task = make_trainer(**options), Net(optimizer=make)
    curve = trainer.lr_find(task, data, steps=20, max=1.0)
    assert task.model is None
    assert len(curve.losses) == 20
    np.testing.assert_allclose(curve.rates, np.geomspace(1e-7, 1, 20), rtol=1e-6)
    trainer.fit(task, data)
    assert differing(alone, trainer) == []
    assert alone.metrics == trainer.metrics


def test_a_trained_task_is_as_it_was() -> None:
    data = busy_data(60)
    trainer, task = make_trainer(max_epochs=1), Net(optimizer="adam")
    trainer.fit(task, data)
    other, twin = make_trainer(max_epochs=1), Net(optimizer="adam")
    other.fit(twin, data)
    trainer.lr_find(task, data, steps=20)
    assert differing(other, trainer) == []
    trainer.fit(task, data)
    other.fit(twin, data)
    assert differing(other, trainer) == []


def test_the_rates_are_those_of_the_steps() -> None:
    """Against SGD by hand on one weight, whose loss is (w - 1)^2 / 2."""

    class Line(Task):
        def build_model(self) -> Any:
            return keras.Sequential(
                [keras.Input((1,)), keras.layers.Dense(1, "linear", False, "zeros")]
            )

        def train_step(self, batch: Any) -> tf.Tensor:
            return tf.reduce_mean((self.model(batch[0]) - 1.0) ** 2) / 2

        def eval_step(self, batch: Any) -> None: ...

    ones = np.ones((4, 1), "float32")
    task = Line(optimizer=keras.optimizers.SGD(123.0))
    curve = make_trainer().lr_find(task, Data(train=(ones,)), min=0.01, max=1.0, steps=10)
    weight, losses = 0.0, []
    for rate in np.geomspace(0.01, 1.0, 10):
        losses.append((weight - 1) ** 2 / 2)
        weight += rate * (1 - weight)
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-4, atol=1e-7)


def test_a_seeded_shuffle_gives_the_run_its_own_first_order() -> None:
    def data() -> Data:
        stream = tf.data.Dataset.from_tensor_slices(blobs(60)).shuffle(60, seed=3).batch(8)
        return Data(train=stream, augment=jitter)

    alone = fitted(Net(optimizer=SGD), data(), max_epochs=2)
    trainer, task, given = make_trainer(max_epochs=2), Net(optimizer=SGD), data()
    trainer.lr_find(task, given, steps=20)  # more than two epochs
    trainer.fit(task, given)
    assert differing(alone, trainer) == []


class Two(Plain):
    automatic_optimization = False

    def build_model(self) -> Any:
        return {name: super(Two, self).build_model() for name in ("a", "b")}

    def configure_optimizers(self) -> Any:
        return {"a": keras.optimizers.SGD(0.1), "b": keras.optimizers.SGD(0.2)}

    def train_step(self, batch: Any) -> None:
        x, y = batch
        for name in ("a", "b"):
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self.minimize(lambda n=name, f=loss: f(y, self.model[n](x)), name)
        self.log("b_loss", loss(y, self.model["b"](x)))

    def eval_step(self, batch: Any) -> None: ...


def test_one_of_several_optimizers_by_name() -> None:
    trainer, data = make_trainer(), busy_data(400, val=None)
    first = trainer.lr_find(Two(), data, max=100.0)
    second = trainer.lr_find(Two(), data, max=100.0, optimizer="b")
    assert (first.optimizer, second.optimizer) == ("a", "b")
    assert first.optimizers == ("a", "b")
    assert first.metric == "b_loss"
    # The loss is b's: with b's own rate of 0.2 it falls, and b's growing rate shows later.
    assert first.smoothed[20] < second.smoothed[20] - 0.1
    assert second.suggestion is not None
    with pytest.raises(UserError, match="no optimizer 'c'"):
        trainer.lr_find(Two(), data, optimizer="c")
    with pytest.raises(UserError, match="log no 'c'"):
        trainer.lr_find(Two(), data, metric="c")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"min": 0.0}, "min"),
        ({"min": 1.0, "max": 0.1}, "max"),
        ({"steps": 3}, "steps"),
        ({"step": 30}, "step"),
    ],
)
def test_wrong_options(options: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError) as caught:
        make_trainer().lr_find(Plain(), busy_data(60), **options)
    assert caught.value.where == f"lr_find.{where}"


def auto(run_dir: Path, stop: int | None = None, **options: Any) -> Trainer:
    steps = {"max_epochs": 1, "auto_lr": {"steps": 60}, **options}
    callbacks = [] if stop is None else [StopAt(stop)]
    trainer = make_trainer(run_dir=run_dir, callbacks=callbacks, **steps)
    trainer.fit(Plain(noisy, optimizer="adam"), busy_data(800))
    return trainer


def test_a_run_uses_the_rate_it_finds_and_keeps_it(tmp_path: Path) -> None:
    trainer = auto(tmp_path / "a")
    curve = make_trainer().lr_find(Plain(noisy, optimizer="adam"), busy_data(800), steps=60)
    rate = trainer.result()["found_rates"]["optimizer"]
    assert rate == curve.suggestion
    assert float(trainer.optimizers["optimizer"].learning_rate) == pytest.approx(rate)
    given = partial(keras.optimizers.Adam, rate, name="adam")
    alone = fitted(Plain(noisy, optimizer=given), busy_data(800), max_epochs=1)
    assert differing(alone, trainer) == []
    # Stopped, and continued by the same command: no second test, and the same rate.
    auto(tmp_path / "b", stop=30)
    (tmp_path / "b" / "lr_find.csv").unlink()
    continued = auto(tmp_path / "b")
    assert not (tmp_path / "b" / "lr_find.csv").exists()
    assert differing(alone, continued) == []
    with pytest.raises(UserError, match="other options"):
        auto(tmp_path / "b", auto_lr=False, max_epochs=2)


def test_auto_refuses_a_schedule_and_a_curve_without_descent(tmp_path: Path) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    trainer = make_trainer(max_steps=2, auto_lr=True, run_dir=tmp_path / "a")
    with pytest.raises(UserError, match="follows a schedule"):
        trainer.fit(Plain(optimizer=partial(keras.optimizers.SGD, schedule)), busy_data(60))
    with pytest.raises(UserError, match="does not fall"):
        make_trainer(max_steps=2, auto_lr={"min": 1e-9, "max": 1e-8}).fit(Plain(), busy_data(60))
