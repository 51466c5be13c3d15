"""What callbacks of many makes are at the start of a run, and which of several is which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Counting, make_trainer

from framework import Data, Task, Trainer
from framework.callbacks.early_stopping import EarlyStopping
from framework.cli.assemble import ConfigText
from framework.errors import UserError

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
DATA = Data(train=(X, X), val=(X, X), test=(X, X), batch_size=8, shuffle=False)


class Line(Task):
    """Its validation's `loss` is minus the step, and so always better."""

    def build_model(self) -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", -tf.cast(self.global_step, tf.float32))


def fit(epochs: int, callbacks: Any, **options: Any) -> Trainer:
    trainer = make_trainer(max_epochs=epochs, callbacks=callbacks, **options)
    trainer.fit(Line(optimizer="sgd"), DATA)
    return trainer


# ---- the start of a run


class Late(Counting):
    """Has no state before a run."""

    def __init__(self) -> None: ...

    def on_fit_start(self, trainer: Trainer) -> None:
        self._by, self.count = 1, 0

    def load_state(self, state: Any) -> None:
        raise AssertionError("there is nothing to go back to")


class Whole(Counting):
    """Gives all its attributes as its state."""

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state(self, state: Any) -> None:
        vars(self).update(state)


class Picky(Counting):
    """Cannot load a state before its first run."""

    def on_fit_start(self, trainer: Trainer) -> None:
        self.ready = True

    def load_state(self, state: Any) -> None:
        assert self.ready
        super().load_state(state)


@pytest.mark.parametrize("kind", [Counting, Late, Whole, Picky])
def test_a_users_callback_begins_every_run_as_it_was_made(
    kind: Callable[[], Any], tmp_path: Path
) -> None:
    callback = kind()
    for name in "ab":
        fit(2, [callback], run_dir=tmp_path / name)
        assert callback.count == 2


def test_what_a_whole_state_holds_can_be_saved_and_continued(tmp_path: Path) -> None:
    fit(1, [Whole()], run_dir=tmp_path)
    again = Whole()
    fit(3, [again], run_dir=tmp_path)
    assert again.count == 3


def test_a_test_before_the_first_run_leaves_nothing_in_it() -> None:
    class Tests(Counting):
        def on_test_end(self, trainer: Trainer, metrics: Any) -> None:
            self.count += 100

    callback = Tests()
    trainer, task = make_trainer(max_epochs=2, callbacks=[callback]), Line(optimizer="sgd")
    trainer.test(task, DATA)
    trainer.fit(task, DATA)
    assert callback.count == 2


class Remembering(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.limit, self.count, self.seen = 5, 0, []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.count += 1
        self.seen.append(epoch)

    def on_test_end(self, logs: Any = None) -> None:
        self.count += 100


@pytest.mark.parametrize("one_trainer", [True, False])
def test_a_keras_callback_begins_every_run_as_it_was_made_or_set(one_trainer: bool) -> None:
    callback = Remembering()
    trainer = make_trainer(max_epochs=2, callbacks=[callback])
    for limit in (5, 7):
        callback.limit = limit
        if not one_trainer:
            trainer = make_trainer(max_epochs=2, callbacks=[callback])
        task = Line(optimizer="sgd")
        trainer.fit(task, DATA)
        assert (callback.count, callback.seen, callback.limit) == (202, [0, 1], limit)
        trainer.test(task, DATA)
        assert callback.count == 302


def test_a_continued_run_keeps_what_a_keras_callback_remembers(tmp_path: Path) -> None:
    callback = Remembering()
    for epochs in (2, 3):  # in one process, by one object
        fit(epochs, [callback], run_dir=tmp_path)
    assert callback.seen == [0, 1, 2]
    fresh = Remembering()
    fit(4, [fresh], run_dir=tmp_path)
    assert fresh.seen == [0, 1, 2, 3]


def test_a_copy_of_a_keras_callback_is_one_of_its_own() -> None:
    import copy

    first = Remembering()
    fit(2, [first])
    second = copy.deepcopy(first)
    fit(1, [second])
    assert (first.count, second.seen[-1:]) == (202, [0])


# ---- which of several is which


def _stops() -> list[Any]:
    return [EarlyStopping(patience=9), EarlyStopping(patience=9, min_delta=100.0)]


def _keras_stops() -> list[Any]:
    kind = keras.callbacks.EarlyStopping
    return [kind("val_loss", patience=9), kind("val_loss", patience=9, min_delta=100.0)]


@pytest.mark.parametrize(("make", "waited"), [(_stops, "waited"), (_keras_stops, "wait")])
def test_alike_ones_are_told_apart_by_what_lies_deeper(
    make: Callable[[], list[Any]], waited: str, tmp_path: Path
) -> None:
    fit(3, make(), run_dir=tmp_path)
    there, again = make(), make()
    fit(3, there[::-1], run_dir=tmp_path)
    # -5, -10, -15: every one better, but never by 100 than the first.
    assert [(c.best, getattr(c, waited)) for c in there] == [(-15.0, 0), (-5.0, 2)]
    fit(4, again, run_dir=tmp_path)
    assert [(c.best, getattr(c, waited)) for c in again] == [(-20.0, 0), (-5.0, 3)]


def test_alike_ones_of_a_users_class_are_told_apart_by_private_options(tmp_path: Path) -> None:
    fit(2, [Counting(1), Counting(10)], run_dir=tmp_path)
    ten, one = Counting(10), Counting(1)
    fit(3, [ten, one], run_dir=tmp_path)
    assert (one.count, ten.count) == (3, 30)


# ---- what else is judged and logged


def test_a_keras_metric_of_one_of_several_sets_is_asked_and_what_judges_nothing_is_not(
    tmp_path: Path,
) -> None:
    class Renamed(Line):
        def build_model(self) -> Any:
            self.metric = keras.metrics.BinaryAccuracy()
            return super().build_model()

        def eval_step(self, batch: Any) -> None:
            self.metric.update_state(tf.ones((4, 1)), tf.ones((4, 1)))
            self.log("ratio", self.metric)

    stop = keras.callbacks.EarlyStopping("val_hard_ratio")
    save = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.weights.h5"), monitor="val_odd", save_weights_only=True
    )
    data = Data(train=(X, X), val={"hard": (X, X), "easy": (X, X)}, batch_size=8)
    trainer = make_trainer(max_epochs=2, callbacks=[stop, save])
    trainer.fit(Renamed(optimizer="sgd"), data)
    assert stop.mode == "max"
    assert len(list(tmp_path.glob("*.weights.h5"))) == 2


def test_whatever_number_a_keras_callback_adds_to_the_logs_is_logged() -> None:
    class Adding(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs |= {"tensor": tf.constant(2.0), "variable": keras.Variable(3.0), "text": "x"}
            logs |= {"array": np.zeros(3), "val_number": np.float32(4.0)}

    metrics = fit(1, [Adding()]).metrics
    usual = ("train/loss", "val/loss", "train/learning_rate")
    added = {k: v for k, v in metrics.items() if k not in usual}
    assert added == {"train/tensor": 2.0, "train/variable": 3.0, "val/number": 4.0}


def test_a_tensor_that_gives_no_number_is_refused_in_our_words() -> None:
    class Stubborn:
        def numpy(self) -> Any:
            raise RuntimeError("Can't call numpy() on a tensor that requires grad.")

    with pytest.raises(UserError, match="a Stubborn, not a number"):
        make_trainer().log_metrics({"x": Stubborn()})


def test_the_configuration_is_logged_once_in_the_life_of_a_run(tmp_path: Path) -> None:
    class Kept(ConfigText):
        def on_fit_start(self, trainer: Trainer) -> None:
            log_text = trainer.log_text
            trainer.log_text = lambda name, text: texts.append(text)  # type: ignore[method-assign]
            super().on_fit_start(trainer)
            trainer.log_text = log_text  # type: ignore[method-assign]

    texts: list[str] = []
    for epochs in range(1, 5):
        fit(epochs, [Kept("seed: 0")], run_dir=tmp_path)
    assert texts == ["seed: 0"]
