"""What steps log, what one leaves to the next, and what ends a run that goes wrong."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSES, FEATURES, Net, blobs, dense, fitted, make_trainer

from framework import Callback, Data, RunView, Task, TrainingFailed, UserError

DATA = Data(train=blobs(20), val=blobs(12, seed=1), batch_size=8)


class Logs(Net):
    """Logs whatever `values` gives, in training."""

    def __init__(self, values: Any) -> None:
        super().__init__(dense)
        self.values = values

    def train_step(self, batch: Any) -> Any:
        for name, value, weight in self.values(batch):
            self.log(name, value, weight)
        return super().train_step(batch)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_what_a_step_logs_twice_becomes_its_weighted_mean(engine: str) -> None:
    task = Logs(lambda batch: [("v", 1.0, None), ("v", 4.0, 24.0)])
    trainer = fitted(task, Data(train=blobs(8), batch_size=8), engine=engine)
    assert trainer.metrics["train/v"] == (1.0 * 8 + 4.0 * 24) / 32


def test_a_python_number_keeps_its_precision() -> None:
    trainer = fitted(Logs(lambda batch: [("v", 0.1, 0.1)]), DATA)
    assert trainer.metrics["train/v"] == pytest.approx(0.1, rel=1e-15)


@pytest.mark.parametrize(
    ("name", "value", "weight", "what"),
    [
        ("", 1.0, None, "'' is not a name for a metric"),
        ("a\nb", 1.0, None, "is not a name for a metric"),
        (None, 1.0, None, "None is not a name for a metric"),
        ("v_epoch", 1.0, None, "ends in _epoch"),
        ("v", "much", None, "a tensor of string was logged"),
        ("v", 1 + 2j, None, "a tensor of complex128 was logged"),
        ("v", object(), None, "a object was logged"),
        ("v", 1.0, [1.0, 2.0], "the weight has shape (2,)"),
    ],
)
def test_what_cannot_be_logged(name: Any, value: Any, weight: Any, what: str) -> None:
    with pytest.raises(UserError) as error:
        fitted(Logs(lambda batch: [(name, value, weight)]), DATA)
    assert what in error.value.what
    assert error.value.fix or "log" in str(error.value.where)


def test_a_metric_with_a_result_for_each_class_is_named() -> None:
    class PerClass(Net):
        def eval_step(self, batch: Any) -> None:
            x, y = batch
            f1 = self.__dict__.setdefault("f1", keras.metrics.F1Score())
            f1.update_state(tf.one_hot(y, CLASSES), tf.nn.softmax(self.model(x)))
            self.log("f1", f1)

    with pytest.raises(UserError, match="'f1' has a result of shape"):
        make_trainer().validate(PerClass(), DATA)


def test_a_host_hook_logs_what_a_step_may_log() -> None:
    class Hooked(Net):
        def on_epoch_end(self) -> None:
            mean = keras.metrics.Mean()
            mean.update_state([1.0, 4.0])
            self.log("metric", mean)
            self.log("tensor", tf.constant([1.0, 2.0]))

    trainer = fitted(Hooked(), DATA)
    assert (trainer.metrics["train/metric"], trainer.metrics["train/tensor"]) == (2.5, 1.5)


def test_the_weight_of_a_batch_is_the_length_of_its_first_tensor_that_has_one() -> None:
    class Scaled(Net):
        def train_step(self, batch: Any) -> Any:
            return super().train_step(batch[1:])

        def eval_step(self, batch: Any) -> None:
            self.log("m", batch[1][:, 0])

    x, y = blobs(13)
    pieces = [(np.float32(1), x[i : i + 5], y[i : i + 5]) for i in (0, 5, 10)]
    metrics = make_trainer().validate(Scaled(), Data(val=lambda: iter(pieces)))
    assert metrics["val/m"] == pytest.approx(float(x[:, 0].astype("f8").mean()), rel=1e-9)


class Shared(Task):
    """Two models by name, one inside the other; the loss is the regularizer's alone."""

    def build_model(self) -> Any:
        layer = keras.layers.Dense(
            2, use_bias=False, kernel_initializer="ones", kernel_regularizer="l2"
        )
        inner = keras.Sequential([keras.Input((2,)), layer])
        whole = keras.Sequential([inner, keras.layers.ActivityRegularization(l2=0.5)])
        whole.build((None, 2))
        return {"inner": inner, "whole": whole}

    def train_step(self, batch: Any) -> Any:
        return 0.0 * tf.reduce_sum(self.model["whole"](batch[0], training=True))

    def eval_step(self, batch: Any) -> None: ...


def test_what_models_share_counts_once() -> None:
    x = np.ones((4, 2), "f4")
    task = Shared(optimizer=keras.optimizers.SGD(1.0))
    trainer = fitted(task, Data(train=(x,), batch_size=4))
    # Four weights of 1 by 0.01 each, and outputs of 2 by 0.5 * 4, of 8 numbers over 4 rows.
    assert trainer.metrics["train/loss"] == pytest.approx(0.04 + 0.5 * 4 * 8 / 4, rel=1e-6)
    moved = 1.0 - task.model["inner"].get_weights()[0]
    np.testing.assert_allclose(moved, 2 * 0.01 + 2 * 2 * 0.5, rtol=1e-6)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_terms_of_an_evaluation_do_not_reach_the_next_step(engine: str) -> None:
    class Two(Net):
        def build_model(self) -> Any:
            busy = keras.Sequential(
                [keras.Input((FEATURES,)), keras.layers.ActivityRegularization(l2=9.0)]
            )
            return {"main": dense(), "busy": busy}

        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean(self.model["main"](batch[0]) ** 2)

        def eval_step(self, batch: Any) -> None:
            self.log("busy", self.model["busy"](batch[0]))

    quiet = Data(train=DATA.train, batch_size=8)
    with_evaluation = fitted(Two(), DATA, engine=engine, max_epochs=2, val_every="1st")
    without = fitted(Two(), quiet, engine=engine, max_epochs=2)
    assert with_evaluation.metrics["train/loss"] == without.metrics["train/loss"]


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_keras_metric_that_two_sets_share_is_reset_between_them(engine: str) -> None:
    class Counted(Net):
        def build_model(self) -> Any:
            self.seen = keras.metrics.Sum()
            return super().build_model()

        def eval_step(self, batch: Any) -> None:
            self.seen.update_state(tf.ones_like(batch[1]))
            self.log("seen", self.seen)

    sets = {"a": blobs(5), "b": blobs(7)}
    task = Counted()
    metrics = make_trainer(engine=engine).validate(task, Data(val=sets))
    assert metrics == {"val/a/seen": 5.0, "val/b/seen": 7.0}
    again = make_trainer(engine=engine).test(task, Data(test=blobs(3)))
    assert again == {"test/seen": 3.0}


def test_a_trainer_forgets_the_task_before() -> None:
    trainer = make_trainer()
    trainer.fit(Logs(lambda batch: [("foo", 1.0, None)]), DATA)
    assert "train/foo" in trainer.metrics
    assert "train/foo" not in trainer.fit(Net(), DATA)


def test_a_task_that_was_built_for_another_precision_is_refused() -> None:
    task = Net()
    fitted(task, DATA, precision="mixed_bfloat16")
    with pytest.raises(UserError, match="built for mixed_bfloat16"):
        fitted(task, DATA)
    assert "val/loss" in make_trainer(precision="mixed_bfloat16").validate(task, DATA)


def test_a_trainer_that_is_at_work_takes_no_second_job() -> None:
    class Nested(Callback):
        def on_epoch_end(self, run: RunView) -> None:
            trainer.validate(run.task, DATA)

    trainer = make_trainer(callbacks=[Nested()])
    with pytest.raises(UserError, match="validate was called while fit is running"):
        trainer.fit(Net(), DATA)
    assert "val/loss" in trainer.validate(Net(), DATA)


# ---- runs that go wrong


class Broken(Net):
    """Its loss is no number from the third step on."""

    def train_step(self, batch: Any) -> Any:
        loss = super().train_step(batch)
        return loss / tf.cast(self.global_step < 2, loss.dtype)


def test_a_float16_run_whose_loss_stays_no_number_fails() -> None:
    data = Data(train=blobs(400), batch_size=8)
    trainer = make_trainer(max_epochs=2, precision="mixed_float16", log_every="1st")
    with pytest.raises(TrainingFailed, match="the training loss became inf"):
        trainer.fit(Broken(), data)
    # The scale of 2**15 was halved to 1 first: an overflow may pass.
    assert 15 <= trainer.progress.step <= 20
    assert trainer.status == "failed"


def test_a_manual_step_that_logs_no_loss_is_judged_by_its_weights() -> None:
    class Silent(Broken):
        automatic_optimization = False

        def train_step(self, batch: Any) -> None:
            self.minimize(lambda: Broken.train_step(self, batch))

    with pytest.raises(TrainingFailed, match="a weight became nan") as error:
        fitted(Silent(), Data(train=blobs(40), batch_size=8))
    assert "kernel" in str(error.value.where)


def test_the_epoch_of_a_loss_that_is_no_number_is_the_one_it_happened_in() -> None:
    with pytest.raises(TrainingFailed, match=r"at step 3 \(epoch 1\)"):
        fitted(Broken(), Data(train=blobs(32), batch_size=8), max_epochs=3)


def test_ctrl_c_ends_a_prediction() -> None:
    class Slow(Net):
        def predict_step(self, batch: Any) -> Any:
            tf.py_function(self.work, [], [])
            return super().predict_step(batch)

        def work(self) -> None:
            done.append(1)
            if len(done) == 20:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    done: list[int] = []
    data = Data(predict=blobs(4_000), eval_batch_size=8)  # 500 batches
    with pytest.raises(KeyboardInterrupt):
        make_trainer().predict(Slow(), data)
    assert 20 <= len(done) < 100


def test_a_prediction_without_rows_is_refused() -> None:
    class Single(Net):
        def predict_step(self, batch: Any) -> Any:
            return tf.reduce_mean(self.model(batch[0]))

    with pytest.raises(UserError, match="a single number for a whole batch"):
        make_trainer().predict(Single(), Data(predict=blobs(8)))
