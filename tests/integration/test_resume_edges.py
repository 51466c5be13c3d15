"""Continuing where little was planned for it: rewinding, odd files, endless data, slow reading."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, StopAt, blobs, differing, fitted, make_trainer

from framework import Callback, Data, Trainer, UserError
from framework.callbacks.keras.wrapper import KerasCallback
from framework.checkpoint.store import MANIFEST
from framework.core.codec import NotHeld, hold, into
from framework.loggers.csv import CSVLogger

DATA = Data(train=blobs(40), batch_size=8)  # 5 steps an epoch


def fit(run_dir: Path | None, *callbacks: Callback, checkpoint: str | None = None, **options: Any):
    data = options.pop("data", DATA)
    loggers = [CSVLogger()] if run_dir else []
    given = {"callbacks": list(callbacks), "loggers": loggers, "run_dir": run_dir, "max_epochs": 4}
    trainer = make_trainer(**given | options)
    optimizer = options.pop("optimizer", None)
    trainer.fit(Net(optimizer=optimizer or (lambda: keras.optimizers.Adam(1e-2))), data, checkpoint)
    return trainer


def steps_logged(run_dir: Path) -> list[int]:
    lines = (run_dir / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("step")
    return [int(line.split(",")[column]) for line in lines[1:]]


class Killed(Callback):
    """Raises as soon as training has begun, so that nothing is saved."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        raise KeyboardInterrupt


# ---- beginning again from an earlier step of the same run


def test_a_past_that_is_taken_back_is_gone_before_its_rows_are(tmp_path: Path) -> None:
    whole = fit(tmp_path)
    shutil.copytree(tmp_path / "checkpoints/step-00000020", tmp_path / "checkpoints/step-00000010")
    make_step(tmp_path / "checkpoints/step-00000010", tmp_path, 10)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, Killed(), checkpoint="10")
    assert steps_logged(tmp_path) == [5, 10]
    again = fit(tmp_path)
    assert not again.already_complete
    assert differing(whole, again) == []
    assert steps_logged(tmp_path) == [5, 10, 15, 20]


def make_step(target: Path, run_dir: Path, step: int) -> None:
    """Put what a run saves at a step where a checkpoint of that step belongs."""
    aside = run_dir.parent / f"{run_dir.name}-aside"
    fit(aside, StopAt(step))
    shutil.rmtree(target)
    shutil.copytree(aside / "checkpoints" / target.name, target)


def test_the_same_command_with_a_checkpoint_continues_what_it_began(tmp_path: Path) -> None:
    whole = fit(tmp_path, StopAt(10))
    began = []

    class Notes(Callback):
        def on_fit_start(self, trainer: Trainer) -> None:
            began.append(trainer.progress.step)

    for step in (13, 16):
        fit(tmp_path, Notes(), StopAt(step), checkpoint="10")
    fit(tmp_path, Notes(), checkpoint="10")
    again = fit(tmp_path, Notes(), checkpoint="10")
    assert began == [10, 13, 16, 20]
    assert again.already_complete
    assert differing(fit(None), again) == []
    # Another one is another wish.
    fit(tmp_path, Notes(), checkpoint="best" if whole.best else "last")
    assert began[-1] == 20


def test_a_checkpoint_under_another_name_is_not_taken_for_a_newer_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(checkpoints / "step-00000020", checkpoints / "step-00000099")
    assert fit(tmp_path).already_complete
    assert "its manifest is that of step 20" in caplog.text


# ---- nothing is written over


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_without_checkpoints_does_not_begin_over_one_with_them(
    tmp_path: Path, resume: str
) -> None:
    fit(tmp_path, max_epochs=1)
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(UserError, match="would be overwritten"):
        fit(tmp_path, enable_checkpointing=False, resume=resume)
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_never_refuses_a_run_without_checkpoints_too(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1, enable_checkpointing=False)
    with pytest.raises(UserError, match="already contains a run"):
        fit(tmp_path, enable_checkpointing=False, resume="never")


@pytest.mark.parametrize("name", ["checkpoints", "metrics.csv"])
def test_what_is_in_the_way_is_named_before_anything_is_trained(tmp_path: Path, name: str) -> None:
    if name == "checkpoints":
        (tmp_path / name).write_text("")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError) as error:
        fit(tmp_path)
    assert error.value.where == str(tmp_path / name)
    assert "Move" in str(error.value.fix)


def test_a_result_that_is_no_result_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[1]")
    assert fit(tmp_path, max_epochs=1).status == "completed"
    assert (tmp_path / "result.json").read_text().startswith("{")


def test_damaged_json_is_called_so(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1)
    (manifest,) = tmp_path.glob(f"checkpoints/*/{MANIFEST}")
    manifest.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="its JSON is damaged"):
        fit(tmp_path)


# ---- another run, from Python


def test_an_optimizer_that_was_made_otherwise_is_refused_with_a_table(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1)
    for made, row in (
        (lambda: keras.optimizers.Adam(0.1), r"optimizer.learning_rate +0.01 +0.1"),
        (lambda: keras.optimizers.Adam(0.01, beta_1=0.5), r"optimizer.beta_1 +0.9 +0.5"),
        (lambda: keras.optimizers.AdamW(0.01), r"optimizer.name +Adam +AdamW"),
    ):
        with pytest.raises(UserError, match=row):
            make_trainer(run_dir=tmp_path, max_epochs=2).fit(Net(optimizer=made), DATA)
    with pytest.raises(UserError, match="5 training batches in an epoch, but now there are 3"):
        fit(tmp_path, max_epochs=2, data=Data(train=blobs(40), batch_size=16))


def test_an_optimizer_that_is_at_work_already_goes_on(tmp_path: Path) -> None:
    task = Net(optimizer=keras.optimizers.Adam(1e-2))
    make_trainer(run_dir=tmp_path, max_epochs=1).fit(task, DATA)
    task.trainer.optimizers["optimizer"].learning_rate = 1e-3  # as a plateau would have it
    trainer = make_trainer(run_dir=tmp_path, max_epochs=2)
    trainer.fit(task, DATA)
    assert trainer.progress.step == 10


def test_a_time_limit_counts_from_when_it_is_given(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=2)
    trainer = fit(tmp_path, max_epochs=10**6, max_time="0.3s")
    assert not trainer.already_complete
    assert trainer.progress.step > 10
    assert trainer.stop_reason == "max_time=0.3s is over"


# ---- data


def endless() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(blobs(40)).shuffle(40, seed=1).repeat().batch(8)


def test_a_shuffle_that_never_ends_continues_exactly(tmp_path: Path) -> None:
    whole = fit(None, data=Data(train=endless()), limit_train_batches=5)
    fit(tmp_path, StopAt(7), data=Data(train=endless()), limit_train_batches=5)
    again = fit(tmp_path, data=Data(train=endless()), limit_train_batches=5)
    assert again.progress.step == 20
    assert differing(whole, again) == []


def test_a_limited_set_is_brought_to_where_its_limit_left_it(tmp_path: Path) -> None:
    def data() -> Data:
        rows = tf.data.Dataset.from_tensor_slices(blobs(40)).shuffle(40, seed=1)
        return Data(train=rows.repeat(3).batch(8))

    whole = fit(None, data=data(), limit_train_batches=3)
    fit(tmp_path, StopAt(7), data=data(), limit_train_batches=3)
    assert differing(whole, fit(tmp_path, data=data(), limit_train_batches=3)) == []


def test_a_signal_is_heeded_while_data_are_read_up_to_where_a_run_was(tmp_path: Path) -> None:
    def batches(epoch: int) -> Iterator[Any]:
        for start in range(0, 400 * 8, 8):
            read.append(start)
            if slow:
                time.sleep(0.02)
                if len(read) == 20:
                    os.kill(os.getpid(), signal.SIGTERM)
            yield x[start : start + 8], y[start : start + 8]

    x, y = blobs(400 * 8)
    slow, read = False, []
    fit(tmp_path, StopAt(399), data=Data(train=batches))
    slow = True
    read.clear()
    with pytest.raises(SystemExit) as ended:
        fit(tmp_path, data=Data(train=batches))
    assert ended.value.code == 143
    assert 20 <= len(read) < 200  # of 399
    assert (tmp_path / "checkpoints/step-00000399").is_dir()


def test_a_generator_may_take_the_epoch_by_name() -> None:
    seen: list[int] = []

    def with_default(epoch: int = 7) -> Iterator[Any]:
        seen.append(epoch)
        yield blobs(8)

    def by_name(*, epoch: int) -> Iterator[Any]:
        seen.append(epoch)
        yield blobs(8)

    for make in (with_default, by_name):
        seen.clear()
        fitted(Net(), Data(train=make), max_epochs=2)
        assert seen[-2:] == [0, 1]


# ---- what changes in place in a Keras callback


class Holder(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.count = keras.Variable(0.0)
        self.mean = keras.metrics.Mean()
        self.draw, self.python = np.random.default_rng(0), random.Random(0)
        self.seen: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.count.assign_add(1.0)
        self.mean.update_state(float(epoch))
        row = float(self.count), float(self.mean.result())
        self.seen.append((*row, float(self.draw.random()), self.python.random()))


def test_what_changes_in_place_in_a_keras_callback_goes_on(tmp_path: Path) -> None:
    whole, first, second = Holder(), Holder(), Holder()
    fit(None, KerasCallback(whole))
    fit(tmp_path, KerasCallback(first), max_epochs=2)
    fit(tmp_path, KerasCallback(second))
    assert second.seen == whole.seen


def test_what_cannot_be_held_is_warned_about_once_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Thing:
        number = 0

    class Owner(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.fixed, self.changing = Thing(), Thing()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.changing.number = epoch + 1

    fit(tmp_path, KerasCallback(Owner()), max_epochs=2)
    assert "Owner.changing holds a Thing" in caplog.text
    assert "Owner.fixed" not in caplog.text
    with pytest.raises(NotHeld):
        hold(Thing())
    assert not into(Thing(), hold(keras.Variable(1.0)))
