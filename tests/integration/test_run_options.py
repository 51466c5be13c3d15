"""Every option of the Trainer does in a run what it says."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, LogRows, Net, Rows, blobs, differing, fitted, make_trainer, noisy

from framework import Callback, Data, Every, Task, Trainer, TrainingFailed, UserError
from framework.callbacks.early_stopping import EarlyStopping
from framework.loggers.csv import CSVLogger
from framework.sources.source import limited

DATA = Data(
    train=blobs(40), val=blobs(20, 1), test=blobs(28, 2), batch_size=8, eval_batch_size=8
)  # 5, 3 and 4 batches


class Probe(Net):
    """Counts rows and remembers the first feature of each in the order they came."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.seen: dict[str, list[float]] = {"train": [], "eval": []}

    def train_step(self, batch: Any) -> Any:
        self.seen["train"] += batch[0][:, 0].numpy().tolist()
        return super().train_step(batch)

    def eval_step(self, batch: Any) -> None:
        self.seen["eval"] += batch[0][:, 0].numpy().tolist()
        super().eval_step(batch)


def probe(data: Data = DATA, **options: Any) -> tuple[Probe, Trainer]:
    task = Probe()
    return task, fitted(task, data, engine="eager", **options)


@pytest.mark.parametrize(
    ("options", "step", "epoch", "reason"),
    [
        ({}, 5, 1, "max_epochs=1 reached"),
        ({"max_epochs": 3}, 15, 3, "max_epochs=3 reached"),
        ({"max_steps": 7}, 7, 1, "max_steps=7 reached"),
        ({"max_steps": 10}, 10, 2, "max_steps=10 reached"),
        ({"max_steps": 12, "max_epochs": 2}, 10, 2, "max_epochs=2 reached"),
        ({"max_steps": 2, "max_epochs": 9, "log_every": "1ep"}, 2, 0, "max_steps=2 reached"),
        ({"max_epochs": 2, "limit_train_batches": 2}, 4, 2, "max_epochs=2 reached"),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6, 2, "max_epochs=2 reached"),
        ({"max_epochs": 1, "limit_train_batches": 99}, 5, 1, "max_epochs=1 reached"),
    ],
)
def test_where_a_run_ends(options: dict[str, Any], step: int, epoch: int, reason: str) -> None:
    trainer = fitted(Net(), DATA, **options)
    assert (trainer.progress.step, trainer.progress.epoch) == (step, epoch)
    assert (trainer.status, trainer.stop_reason) == ("completed", reason)
    assert "val/loss" in trainer.metrics  # the end validates, wherever it is


def test_max_time_stops_the_run_and_says_so() -> None:
    seconds = []

    class Notes(Callback):
        def on_train_batch_end(self, trainer: Trainer) -> None:
            seconds.append(trainer.progress.seconds)

    trainer = fitted(Net(), DATA, callbacks=[Notes()], max_time="0.5s", max_epochs=10**6)
    assert (trainer.status, trainer.stop_reason) == ("stopped", "max_time=0.5s is over")
    # At the end of the first stretch that ends after it, however slow the machine is.
    assert all(each < 0.5 for each in seconds[:-1])
    assert 0.5 <= seconds[-1] <= trainer.progress.seconds


def test_limits_take_a_count_or_a_fraction_rounded_up() -> None:
    assert [limited(10, n) for n in (3, 99, 0.25, 1.0, 1)] == [3, 10, 3, 10, 1]
    task, _ = probe(limit_train_batches=2, limit_val_batches=0.5)
    assert (len(task.seen["train"]), len(task.seen["eval"])) == (16, 16)
    task, trainer = probe(limit_val_batches=0)
    assert task.seen["eval"] == []
    assert not trainer.has_validation
    task = Probe()
    make_trainer(engine="eager", limit_test_batches=3).test(task, DATA)
    assert len(task.seen["eval"]) == 24
    task = Probe()
    make_trainer(engine="eager").test(task, DATA)
    assert task.seen["eval"] == DATA.test[0][:, 0].tolist()


@pytest.mark.parametrize(
    ("val_every", "steps"),
    [("1ep", [5, 10]), ("4st", [4, 8, 10]), (None, []), ("0.5ep", [3, 5, 8, 10]), ("2ep", [10])],
)
def test_val_every(val_every: str | None, steps: list[int]) -> None:
    log = LogRows()
    fitted(Net(), DATA, max_epochs=2, val_every=val_every, callbacks=[log])
    assert [step for step, _ in log.val] == steps


def test_val_every_in_time() -> None:
    log = LogRows()
    fitted(Net(), DATA, max_epochs=4, val_every="0.000001s", callbacks=[log])
    # With a moment always due, every stretch ends in a validation.
    steps = [step for step, _ in log.val]
    assert len(steps) >= 10
    assert steps[-1] == 20
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("log_every", "steps"), [("1st", [1, 2, 3, 4, 5, 6, 7]), ("3st", [3, 5, 6, 7]), ("1ep", [5, 7])]
)
def test_log_every(log_every: str, steps: list[int]) -> None:
    log = LogRows()
    fitted(Net(), DATA, max_steps=7, log_every=log_every, callbacks=[log])
    assert [step for step, _ in log.rows] == steps


@pytest.mark.parametrize(("value", "batches"), [(True, 1), (3, 3)])
def test_fast_dev_run_tries_everything_and_writes_nothing(
    value: Any, batches: int, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    task = Probe()
    trainer = make_trainer(
        fast_dev_run=value, max_epochs=9, engine="eager", run_dir=run_dir, loggers=[CSVLogger()]
    )
    trainer.fit(task, DATA)
    trainer.test(task, DATA)
    assert not run_dir.exists()
    assert trainer.progress.step == batches
    assert len(task.seen["train"]) == 8 * batches
    assert len(task.seen["eval"]) == 2 * 8 * batches - (4 if batches == 3 else 0)
    assert {"train/loss", "val/loss", "test/loss"} <= set(trainer.metrics)


def test_overfit_batches_trains_and_validates_on_the_same_first_rows() -> None:
    task, trainer = probe(overfit_batches=2, max_epochs=3)
    first = DATA.train[0][:16, 0].tolist()
    assert task.seen["train"] == first * 3
    assert task.seen["eval"] == first * 3
    assert trainer.progress.step == 6
    task, trainer = probe(Data(train=blobs(40), batch_size=8), overfit_batches=0.2)
    assert len(task.seen["train"]) == 8


def test_overfit_batches_can_learn_them_by_heart() -> None:
    trainer = fitted(
        Net(optimizer=lambda: keras.optimizers.Adam(0.1)), DATA, overfit_batches=1, max_epochs=200
    )
    assert trainer.metrics["val/accuracy"] == 1.0


def built() -> keras.Model:
    model = noisy()
    model.build((None, FEATURES))
    return model


def test_sanity_validation_runs_first_and_leaves_no_trace() -> None:
    task = Probe(build=built)
    plain = fitted(Net(built), DATA, engine="eager")
    trainer = make_trainer(sanity_val_steps=2, engine="eager", callbacks=[log := LogRows()])
    trainer.fit(task, DATA)
    assert len(task.seen["eval"]) == 16 + 20
    assert [step for step, _ in log.val] == [5]
    assert differing(plain, trainer) == []
    assert trainer.metrics == plain.metrics


def test_the_device_decides_where_weights_live() -> None:
    task = Net()
    trainer = fitted(task, DATA, device="cpu")
    assert trainer.result()["device"] == "CPU:0"
    assert task.model.weights[0].value.device.endswith("CPU:0")


def test_moments_may_be_given_as_objects() -> None:
    log = LogRows()
    every = {"log_every": Every("2st"), "val_every": Every("4st"), "max_time": Every("1h")}
    trainer = fitted(Net(), DATA, max_epochs=1, callbacks=[log], **every)
    assert [step for step, _ in log.rows] == [2, 4, 5]
    assert [step for step, _ in log.val] == [4, 5]
    assert trainer.config.max_time == "1h"


@pytest.mark.parametrize("options", [{"val_every": None}, {"limit_val_batches": 0}])
def test_what_is_never_validated_cannot_be_monitored(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"val/loss is monitored, but {next(iter(options))} is"):
        fitted(Net(), DATA, callbacks=[EarlyStopping("val/loss")], **options)
    assert not fitted(Net(), DATA, **options).has_validation


class Poison(Net):
    """Its loss is NaN from the sixth step on, and so are its weights from then on."""

    def train_step(self, batch: Any) -> Any:
        loss = super().train_step(batch)
        return loss * tf.where(tf.cast(self.global_step, tf.int64) < 5, 1.0, float("nan"))


@pytest.mark.parametrize("log_every", ["4st", "1st", "1ep"])
def test_a_loss_that_is_no_number_stops_the_run_and_says_where(log_every: str) -> None:
    trainer = make_trainer(max_epochs=4, log_every=log_every)
    with pytest.raises(TrainingFailed) as error:
        trainer.fit(Poison(), DATA)
    assert "the training loss became nan at step 6 " in error.value.what
    assert "(epoch 2)" in error.value.what
    assert "sequential/dense/kernel" in str(error.value.where)
    assert trainer.status == "failed"
    assert "nan" in trainer.stop_reason


@pytest.mark.parametrize(
    ("options", "when"),
    [
        ({"engine": "loop_xla"}, "at step 6 "),
        ({"devices": 2}, "at step 6 "),
        ({"accumulate": 2}, "in steps 4 to 6 "),  # a step logs its loss twice
    ],
)
def test_the_step_of_a_loss_that_is_no_number(options: dict[str, Any], when: str) -> None:
    with pytest.raises(TrainingFailed) as error:
        fitted(Poison(), DATA, max_epochs=4, log_every="8st", **options)
    assert f"the training loss became nan {when}" in error.value.what


@pytest.mark.parametrize(
    "options", [{}, {"engine": "eager"}, {"engine": "loop_xla"}, {"devices": 2}], ids=str
)
def test_detect_anomaly_names_the_operation_and_its_line(options: dict[str, Any]) -> None:
    class Logarithm(Net):
        def train_step(self, batch: Any) -> Any:
            loss = super().train_step(batch)
            return loss * tf.math.log(5.0 - tf.cast(self.global_step, tf.float32))

    lines, first = inspect.getsourcelines(Logarithm.train_step)
    (line,) = (first + i for i, text in enumerate(lines) if "math.log" in text)
    with pytest.raises(TrainingFailed) as error:
        fitted(Logarithm(), DATA, max_epochs=4, detect_anomaly=True, **options)
    wanted = "the result of Log, float32 of shape (), became NaN or infinite at step 6"
    assert error.value.what == wanted
    assert error.value.where == f"{__file__}:{line}, in train_step"
    assert fitted(Net(), DATA, detect_anomaly=True).status == "completed"
    tf.math.log(-1.0)  # nothing is checked any more


def test_stop_on_nan_can_be_turned_off() -> None:
    trainer = fitted(Poison(), DATA, max_epochs=4, stop_on_nan=False)
    assert trainer.progress.step == 20
    assert np.isnan(trainer.metrics["train/loss"])


def test_deterministic_is_on_during_the_run_only() -> None:
    from tensorflow.python.framework import config

    class Asks(Net):
        def on_epoch_start(self) -> None:
            found.append(config.is_op_determinism_enabled())

    found: list[bool] = []
    fitted(Asks(), DATA, deterministic=True)
    fitted(Asks(), DATA)
    assert found == [True, False]
    assert not config.is_op_determinism_enabled()


def test_eager_runs_the_step_in_python_for_every_batch() -> None:
    class Counts(Net):
        def train_step(self, batch: Any) -> Any:
            assert tf.executing_eagerly()
            calls.append(1)
            return super().train_step(batch)

    calls: list[int] = []
    fitted(Counts(), DATA, engine="eager", max_epochs=2)
    assert len(calls) == 10


def test_result_json_and_the_run_directory(tmp_path: Path) -> None:
    log = Rows()
    trainer = make_trainer(
        max_epochs=2, run_dir=tmp_path / "a" / "b", loggers=[log], info={"sweep": 3}, seed=4
    )
    task = Net()
    trainer.fit(task, DATA)
    result = json.loads((tmp_path / "a" / "b" / "result.json").read_text())
    assert result["status"] == "completed"
    assert result["stop_reason"] == "max_epochs=2 reached"
    assert (result["epoch"], result["global_step"], result["seed"]) == (2, 10, 4)
    assert result["metrics"] == trainer.metrics
    assert result["sweep"] == 3
    assert result["examples_per_second"] > 0
    trainer.test(task, DATA)
    after = json.loads((tmp_path / "a" / "b" / "result.json").read_text())
    assert after["status"] == "completed"
    assert after["stop_reason"] == "max_epochs=2 reached"
    assert after["metrics"].keys() == result["metrics"].keys() | {"test/loss", "test/accuracy"}
    assert log.rows[-1][0] == 10
    assert "test/loss" in log.rows[-1][2]


def test_a_failed_run_says_so_in_result_json(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed):
        make_trainer(max_epochs=4, log_every="1st", run_dir=tmp_path).fit(Poison(), DATA)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "failed"
    assert "nan" in result["stop_reason"]


def test_predict_gives_a_row_for_each_example() -> None:
    class Nested(Net):
        def predict_step(self, batch: Any) -> Any:
            logits = self.model(batch[0])
            return {"logits": logits, "pair": (batch[1], tf.argmax(logits, -1))}

    task = Nested()
    trainer = make_trainer()
    found = trainer.predict(task, Data(test=DATA.test, batch_size=8))
    expected = DATA.test[0] @ task.model.get_weights()[0] + task.model.get_weights()[1]
    assert found["logits"] == pytest.approx(expected, abs=1e-5)
    assert found["pair"][0].tolist() == DATA.test[1].tolist()
    assert found["pair"][1].tolist() == expected.argmax(-1).tolist()
    plain = trainer.predict(Net(), Data(predict=DATA.val[0], batch_size=8))
    assert plain.shape == (20, 3)


def test_a_trainer_can_be_used_again_and_a_task_trained_on() -> None:
    task, trainer = Net(), make_trainer(max_epochs=1)
    first = trainer.fit(task, DATA)["train/loss"]
    assert trainer.fit(task, DATA)["train/loss"] < first  # the weights were kept
    assert trainer.progress.step == 5


def test_a_task_of_plain_functions_runs_without_labels() -> None:
    class Autoencoder(Task):
        def build_model(self) -> keras.Model:
            return keras.Sequential([keras.layers.Dense(FEATURES)])

        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean((self.model(batch, training=True) - batch) ** 2)

        def eval_step(self, batch: Any) -> Any:
            return {"loss": tf.reduce_mean((self.model(batch) - batch) ** 2)}

    x = blobs(40)[0]
    trainer = fitted(Autoencoder(), Data(train=x, val=x, batch_size=16), max_epochs=2)
    assert trainer.metrics["val/loss"] < trainer.metrics["train/loss"]


def test_every_in_time_wakes_a_callback() -> None:
    class Clocked(Callback):
        every = Every("0.05s")

        def on_wake(self, trainer: Trainer) -> None:
            woken.append(trainer.progress.step)

    woken: list[int] = []
    fitted(Net(), DATA, max_time="0.6s", callbacks=[Clocked()])
    assert 3 <= len(woken) <= 12
