"""What callbacks judge by, what they carry from run to run, and whose weights are judged."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer

from framework import Callback, Data, Task, Trainer
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.ema import EMA
from framework.callbacks.monitor import Monitor
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.errors import UserError
from framework.loggers.csv import CSVLogger

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
Y = X @ np.array([[1.0], [2.0], [3.0]], "f4")
DATA = Data(train=(X, Y), val=(X, Y), test=(X, Y), batch_size=8, shuffle=False)


class Line(Task):
    def build_model(self) -> Any:
        init = keras.initializers.Zeros()
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=init)])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", (self.model(batch[0]) - batch[1]) ** 2)


class Worse(Line):
    def eval_step(self, batch: Any) -> None:
        step = tf.cast(self.global_step, tf.float32)
        self.log("loss", step)
        self.log("gain", -step)


def fit(task: Task, epochs: int = 2, **options: Any) -> Trainer:
    trainer = make_trainer(max_epochs=epochs, **options)
    trainer.fit(task, DATA)
    return trainer


# ---- nothing is carried from one run to another


class Counting(Callback):
    """A user's own, with a state."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.epochs += 1

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state(self, state: Any) -> None:
        self.epochs = state["epochs"]


def test_a_second_run_begins_with_callbacks_as_they_were_made() -> None:
    stop, own, plateau = EarlyStopping(patience=2), Counting(), ReduceOnPlateau(patience=1)
    keras_stop = keras.callbacks.EarlyStopping("val_loss", patience=2)
    for callbacks in ([stop, own, plateau], [keras_stop]):
        trainer = make_trainer(max_epochs=6, callbacks=callbacks)
        steps = []
        for _ in range(2):
            trainer.fit(Worse(optimizer="sgd"), DATA)
            steps.append(trainer.progress.step)
        assert steps == [15, 15]  # three epochs of five batches: the first, and two no better
    assert own.epochs == 3


def test_a_second_run_keeps_and_reports_for_itself(tmp_path: Path) -> None:
    keep = Checkpoint(keep_every="1ep", keep_last=1, keep_best=0)
    for name in "ab":
        trainer = fit(Line(optimizer="sgd"), 3, run_dir=tmp_path / name, callbacks=[keep])
        assert len(list((tmp_path / name / "checkpoints").glob("step-*"))) == 3
    trainer = make_trainer(max_epochs=1)
    trainer.fit(Line(optimizer="sgd"), DATA)
    assert trainer.data_info["val_rows"] == 40
    trainer.fit(Line(optimizer="sgd"), Data(train=(X, Y)))
    assert "val_rows" not in trainer.data_info


# ---- a state goes back to its own callback


def pair() -> tuple[EarlyStopping, EarlyStopping]:
    return EarlyStopping("val/loss", patience=9), EarlyStopping("val/gain", "max", patience=3)


@pytest.mark.parametrize("order", [[1, 0], [1], [0, 1]])
def test_states_are_told_apart_by_what_is_monitored(
    order: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(Worse(optimizer="sgd"), 2, run_dir=tmp_path, callbacks=list(pair()))
    again = pair()
    with caplog.at_level(logging.WARNING, "framework"):
        fit(Worse(optimizer="sgd"), 3, run_dir=tmp_path, callbacks=[again[i] for i in order])
    # -5 after the first epoch, then two that are worse.
    assert (again[1].best, again[1].waited) == (-5.0, 2)
    said = [r.getMessage() for r in caplog.records if "no such callback" in r.getMessage()]
    assert bool(said) == (len(order) == 1)


class Named(Counting):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def test_several_of_a_users_class_are_told_apart_by_their_options(tmp_path: Path) -> None:
    class Late(Named):
        def on_epoch_end(self, trainer: Trainer) -> None:
            self.epochs += 10 if self.name == "ten" else 1

    fit(Line(optimizer="sgd"), 2, run_dir=tmp_path, callbacks=[Late("one"), Late("ten")])
    one, ten, new = Late("one"), Late("ten"), Late("new")
    fit(Line(optimizer="sgd"), 3, run_dir=tmp_path, callbacks=[ten, new, one])
    assert (one.epochs, ten.epochs, new.epochs) == (3, 30, 1)


def test_a_changed_option_leaves_a_lone_callback_its_state(tmp_path: Path) -> None:
    fit(Worse(optimizer="sgd"), 2, run_dir=tmp_path, callbacks=[EarlyStopping(patience=5)])
    more = EarlyStopping(patience=8)
    fit(Worse(optimizer="sgd"), 3, run_dir=tmp_path, callbacks=[more])
    assert (more.best, more.waited) == (5.0, 2)


def test_a_name_that_does_not_tell_is_refused_with_the_option() -> None:
    class Odd(Line):
        def eval_step(self, batch: Any) -> None:
            self.log("ratio", 1.0)

    with pytest.raises(UserError, match="higher or a lower val/ratio") as caught:
        fit(Odd(optimizer="sgd"), callbacks=[EarlyStopping("val/ratio")])
    assert "mode=min or mode=max" in str(caught.value)
    stop = keras.callbacks.EarlyStopping("val_ratio")
    with pytest.raises(UserError, match="cannot tell whether"):
        fit(Odd(optimizer="sgd"), callbacks=[stop])
    assert fit(Odd(optimizer="sgd"), callbacks=[EarlyStopping("val/ratio", "max")]).status


def test_what_a_keras_metric_says_comes_before_its_name() -> None:
    class Renamed(Line):
        def build_model(self) -> Any:
            self.metric = keras.metrics.BinaryAccuracy()  # higher is better
            return super().build_model()

        def eval_step(self, batch: Any) -> None:
            self.metric.update_state(tf.ones((4, 1)), tf.ones((4, 1)))
            self.log("ratio", self.metric)

    stop = EarlyStopping("val/ratio")
    fit(Renamed(optimizer="sgd"), callbacks=[stop])
    assert stop.monitor.mode == "max"
    with pytest.raises(UserError):
        _ = Monitor("val/ratio").mode


def test_a_default_checkpoint_never_guesses(tmp_path: Path) -> None:
    class Odd(Line):
        def eval_step(self, batch: Any) -> None:
            self.log("ratio", 1.0)
            self.log("wer", 0.5)

    assert fit(Odd(optimizer="sgd"), run_dir=tmp_path).best["metric"] == "val/wer"


# ---- an epoch's mean


def test_a_training_metric_is_judged_by_its_epochs_mean(tmp_path: Path) -> None:
    values = [5.0, 0.0, 5.0, 5.0, 5.0, 3.0, 3.0, 3.0, 3.0, 3.0]

    class Noisy(Line):
        def train_step(self, batch: Any) -> Any:
            self.log("loss", tf.gather(values, tf.cast(self.global_step, tf.int32)))
            return super().train_step(batch)

    seen = {}

    class Look(Callback):
        def on_log(self, trainer: Trainer, metrics: Any) -> None:
            seen[trainer.progress.step] = trainer.metrics["train/loss"]

    saving = Checkpoint("train/loss", save_every="1st", keep_best=1)
    trainer = fit(
        Noisy(optimizer="sgd"), run_dir=tmp_path, log_every="1st", callbacks=[Look(), saving]
    )
    assert trainer.best == {"step": 10, "metric": "train/loss", "value": 3.0}
    assert seen[2] == 0.0  # nothing else is known yet
    assert seen[5] == seen[7] == np.mean(values[:5])
    assert seen[10] == 3.0


# ---- what may be logged


def test_whatever_is_a_number_can_be_logged_under_any_name(tmp_path: Path) -> None:
    given = {
        "epoch": 0.5, "step": 7, "a,b": np.float32(1.5), 'quo"ted': tf.constant([2.0]),
        "nan": math.nan, "true": True, "größe": keras.Variable(3.0),
        "half": tf.constant(0.5, "bfloat16"),
    }  # fmt: skip

    class Own(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            trainer.log_metrics(given)

    for epochs in (2, 3):
        options: dict[str, Any] = {"loggers": [CSVLogger()], "callbacks": [Own()]}
        trainer = fit(Line(optimizer="sgd"), epochs, run_dir=tmp_path, **options)
    assert trainer.metrics["größe"] == 3.0
    assert trainer.metrics["half"] == 0.5
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "5", "10", "15"]
    assert "logged/epoch" in lines[0]
    assert "logged/step" in lines[0]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("x", None, "x is None"),
        ("x", "3", "x is a str"),
        ("x", np.zeros(3), "shape (3,)"),
        ("x", 1j, "a complex"),
        ("", 1.0, "not a name"),
        (" x", 1.0, "not a name"),
        ("a\nb", 1.0, "not a name"),
        (3, 1.0, "not a name"),
    ],
)
def test_what_is_no_number_or_no_name_is_refused(name: Any, value: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        make_trainer().log_metrics({name: value})
    assert said in str(caught.value)


# ---- what grows


def test_a_checkpoints_state_does_not_grow_with_validations(tmp_path: Path) -> None:
    saving = Checkpoint(keep_best=2, save_every=None)
    sizes = []

    class Size(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            sizes.append(len(json.dumps(saving.state())))

    fit(Line(optimizer="sgd"), 40, run_dir=tmp_path, callbacks=[Size(), saving])
    assert len(saving.state()["judged"]) == 2
    assert max(sizes) < min(sizes[2:]) + 20


# ---- whose weights


class Ruined(Line):
    def train_step(self, batch: Any) -> Any:
        sign = tf.where(self.global_step < 10, 1.0, -0.2)
        return sign * super().train_step(batch)


def trained(tmp_path: Path) -> float:
    """Train a run whose best epoch is not its last; return the best loss."""
    trainer = fit(Ruined(optimizer="sgd"), 3, run_dir=tmp_path, stop_on_nan=False)
    assert trainer.best is not None
    assert trainer.best["step"] == 10
    return float(trainer.best["value"])


def test_a_task_that_was_not_trained_here_gets_the_runs_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = trained(tmp_path)
    with caplog.at_level(logging.INFO, "framework"):
        metrics = make_trainer(run_dir=tmp_path).test(Line(), DATA)
    assert metrics["test/loss"] == pytest.approx(best)
    assert any("test: the best weights by val/loss" in r.getMessage() for r in caplog.records)
    task = Line()
    validated = make_trainer(run_dir=tmp_path).validate(task, DATA)
    assert validated["val/loss"] == pytest.approx(best)
    predicted = make_trainer(run_dir=tmp_path).predict(Line(), DATA)
    np.testing.assert_allclose(np.mean((predicted - Y) ** 2), best, rtol=1e-5)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["weights"]["test"]["weights"] == "best"
    assert result["weights"]["test"]["step"] == 10
    assert result["weights"]["val"]["value"] == pytest.approx(best)
    last = make_trainer(run_dir=tmp_path)
    last.test(Line(), DATA, checkpoint="last")
    assert last.weights["test"] == {"weights": "last", "step": 15}


def test_a_task_keeps_the_weights_that_this_process_has_given_it(tmp_path: Path) -> None:
    task = Line(optimizer="sgd")
    trainer = fit(task, 1, run_dir=tmp_path / "a")
    want = trainer.metrics["val/loss"]
    fit(Line(optimizer="sgd"), 3, run_dir=tmp_path / "b")
    other = make_trainer(run_dir=tmp_path / "b")
    assert other.test(task, DATA)["test/loss"] == pytest.approx(want)
    of = {"weights": "last", "step": 5, "run": str((tmp_path / "a").resolve())}
    assert other.weights["test"] == of
    judge, [saved] = (
        make_trainer(run_dir=tmp_path / "b"),
        (tmp_path / "a/checkpoints").glob("step*"),
    )
    judge.test(Line(), DATA, checkpoint=str(saved))
    assert judge.weights["test"] == {**of, "weights": "best", "metric": "val/loss", "value": want}
    nowhere = fit(Line(optimizer="sgd"), 1)
    other.test(nowhere.task, DATA)
    assert other.weights["test"] == {**of, "run": None}
    nowhere.test(nowhere.task, DATA)
    assert nowhere.weights["test"] == {"weights": "last", "step": 5}


def test_weights_that_a_callback_puts_in_place_at_the_end_are_not_called_the_last() -> None:
    best = keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)
    kept = keras.callbacks.EarlyStopping("val_loss", patience=9)
    for callback, whose in ((best, "replaced"), (kept, "last")):
        task = Ruined(optimizer="sgd")
        trainer = fit(task, 3, stop_on_nan=False, callbacks=[callback])
        trainer.test(task, DATA)
        assert trainer.weights["test"] == {"weights": whose, "step": 15}


def test_initial_weights_are_called_so(caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer()
    with caplog.at_level(logging.WARNING, "framework"):
        trainer.test(Line(), DATA)
    assert trainer.weights["test"]["weights"] == "initial"
    assert any("initial weights" in r.getMessage() for r in caplog.records)


def test_an_average_that_is_judged_is_named(tmp_path: Path) -> None:
    task, trainer = Line(optimizer="sgd"), make_trainer(max_epochs=2, callbacks=[EMA(0.5)])
    trainer.fit(task, DATA)
    trainer.test(task, DATA)
    assert trainer.weights["test"] == {"weights": "last", "step": 10, "average": "EMA"}
    assert trainer.weights["val"]["average"] == "EMA"
    own = Line(optimizer=keras.optimizers.SGD(0.1, use_ema=True))
    fit(own)
    judge = make_trainer()
    judge.test(own, DATA)
    assert judge.weights["test"]["average"] == "the optimizer"
