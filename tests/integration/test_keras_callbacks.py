"""Callbacks written for Keras: called as by `Model.fit`, and as if never interrupted."""

from __future__ import annotations

import collections
import csv
import os
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers import Net, blobs, busy_data, dense, differing, make_trainer
from keras import callbacks as kc

from framework import Callback, Every, KerasCallback, Trainer
from framework.callbacks.attribute_state import Attributes
from framework.callbacks.checkpoint import Checkpoint
from framework.core.codec import same
from framework.run.hooks import Hooks

EPOCHS, STEPS = 6, 5  # of 33 rows in batches of 8


class At(Callback):
    """Stops a run at a step, or sends it a signal, as a time limit or a scheduler would."""

    def __init__(self, step: int, *, kill: bool = False) -> None:
        self.step, self.kill, self.every = step, kill, Every("1st")

    def on_wake(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            if self.kill:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                trainer.stop("as told")


class Tally(kc.Callback):
    """A user's own: it counts what it is called for, in attributes of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: collections.Counter[str] = collections.Counter()
        self.by_epoch: dict[int, tuple[float, ...]] = {}
        self.best = np.float32(np.inf)
        self._hidden, self.last, self.note = 0, None, ""

    def on_train_begin(self, logs: Any = None) -> None:
        self.note = "began"

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls["epoch_begin"] += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls["epoch_end"] += 1
        self.by_epoch[epoch] = (logs["loss"], logs["val_loss"])
        self.best = min(self.best, np.float32(logs["val_loss"]))
        self._hidden += 1
        self.last = self.model.get_weights()

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls["test_begin"] += 1

    def on_test_end(self, logs: Any = None) -> None:
        assert logs.keys() == {"loss", "accuracy"}
        self.calls["test_end"] += 1


def keras_own() -> list[Any]:
    def falling(epoch: int, rate: float) -> float:
        return rate * 0.9 if epoch else 0.3

    return [
        kc.LearningRateScheduler(falling),
        kc.ReduceLROnPlateau("val_accuracy", factor=0.5, patience=1, min_delta=0.02),
        kc.EarlyStopping("val_accuracy", min_delta=0.02, patience=2, restore_best_weights=True),
        Tally(),
        kc.History(),
    ]


# Most runs are eager: the compiled engines take longer to compile than to make these few steps.
def run(run_dir: Path | None, *others: Callback, given: Any = None, **options: Any) -> Any:
    given = keras_own() if given is None else given
    task = Net(dense, optimizer=lambda: keras.optimizers.SGD(0.3, momentum=0.9))
    options = {"max_epochs": EPOCHS, "run_dir": run_dir, "engine": "eager", **options}
    trainer = make_trainer(callbacks=[*given, *others], **options)
    trainer.fit(task, busy_data(33))
    return trainer, given


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("unbroken"), engine="graph")


def assert_unbroken(unbroken: Any, resumed: Any) -> None:
    (whole, wanted), (trainer, found) = unbroken, resumed
    assert (trainer.progress.step, trainer.status) == (whole.progress.step, whole.status)
    assert trainer.stop_reason == whole.stop_reason
    assert differing(whole, trainer) == []
    for one, other in zip(wanted, found, strict=True):
        if isinstance(one, Tally):
            one.calls, other.calls = dict(one.calls), dict(other.calls)
        left, right = ({**Attributes(c, ("_model", "params")).made} for c in (one, other))
        assert left.keys() == right.keys()
        assert [name for name in left if not same(left[name], right[name])] == []


def test_the_unbroken_run_stops_and_has_the_best_weights(unbroken: Any) -> None:
    trainer, (_, plateau, stopping, tally, history) = unbroken
    assert trainer.status == "stopped"
    assert trainer.stop_reason == "EarlyStopping set model.stop_training"
    epochs = trainer.progress.epoch
    assert 3 <= epochs < EPOCHS
    assert trainer.progress.step == epochs * STEPS
    assert stopping.stopped_epoch == epochs - 1
    assert max(history.history["val_accuracy"]) - 0.02 <= stopping.best
    for mine, best in zip(trainer.task.model.get_weights(), stopping.best_weights, strict=True):
        assert (mine == best).all()
    assert not np.array_equal(trainer.task.model.get_weights()[0], tally.last[0])
    # What the scheduler adds to the logs reaches those after it, and the framework's.
    assert len(history.history["learning_rate"]) == epochs
    assert trainer.metrics["train/learning_rate"] == history.history["learning_rate"][-1]
    assert history.history["loss"] == [pair[0] for pair in tally.by_epoch.values()]
    assert tally.calls == dict.fromkeys(
        ("epoch_begin", "epoch_end", "test_begin", "test_end"), epochs
    )
    assert plateau.min_delta == 0.02  # turned for less alone
    assert "optimizer" not in vars(trainer.task.model)
    assert "stop_training" not in vars(trainer.task.model)


class KillInValidation(Callback):
    def on_validation_start(self, trainer: Trainer) -> None:
        if trainer.progress.step == 2 * STEPS:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_interrupted_anywhere_goes_on_as_if_unbroken(unbroken: Any, tmp_path: Path) -> None:
    for step in (3, STEPS):
        trainer, _ = run(tmp_path, At(step), engine="graph")
        assert (trainer.progress.step, trainer.stop_reason) == (step, "as told")
    for killer in (At(8, kill=True), KillInValidation()):
        with pytest.raises(SystemExit):
            run(tmp_path, killer, engine="graph")
    assert_unbroken(unbroken, run(tmp_path, engine="graph"))
    again = run(tmp_path, engine="graph")  # a run that was stopped stays so
    assert again[0].already_complete
    assert_unbroken(unbroken, again)


def test_more_patience_goes_on_from_the_last_weights(tmp_path: Path) -> None:
    def patient(patience: int) -> list[Any]:
        rise = {"min_delta": 0.5, "restore_best_weights": True}
        return [kc.EarlyStopping("val_accuracy", patience=patience, **rise)]

    trainer, _ = run(tmp_path, given=patient(1))
    assert trainer.progress.epoch == 2
    trainer, _ = run(tmp_path, given=patient(3))
    whole, _ = run(None, given=patient(3))
    assert whole.progress.epoch == trainer.progress.epoch == 4
    assert differing(whole, trainer) == []


def test_a_run_that_goes_on_to_a_later_end_begins_with_the_last_weights(tmp_path: Path) -> None:
    def stopping() -> list[Any]:
        # Epochs end without a save, so that the checkpoint is made after on_train_end.
        best_of_all = kc.EarlyStopping("loss", mode="max", patience=9, restore_best_weights=True)
        return [best_of_all, Checkpoint(save_every=None, keep_best=0)]

    whole, _ = run(None, given=stopping(), max_epochs=4)
    run(tmp_path, given=stopping(), max_epochs=2)
    trainer, _ = run(tmp_path, given=stopping(), max_epochs=4)
    assert differing(whole, trainer) == []


def test_csv_and_model_files_go_on(tmp_path: Path) -> None:
    def files(name: str) -> list[Any]:
        target = tmp_path / f"{name}.keras"
        best = kc.ModelCheckpoint(target, "val_accuracy", save_best_only=True)
        return [kc.CSVLogger(tmp_path / f"{name}.csv"), best]

    run(None, given=files("whole"), max_epochs=4)
    run(tmp_path / "run", At(2 * STEPS + 1), given=files("broken"), max_epochs=4)
    with open(tmp_path / "broken.csv", "a") as file:
        file.write("2,9,9,9,9\n")  # of a process that was killed before it could save
    run(tmp_path / "run", At(3 * STEPS + 1), given=files("broken"), max_epochs=4)
    _, (_, best) = run(tmp_path / "run", given=files("broken"), max_epochs=4)
    with open(tmp_path / "whole.csv") as one, open(tmp_path / "broken.csv") as other:
        whole, broken = list(csv.DictReader(one)), list(csv.DictReader(other))
    assert [row["epoch"] for row in whole] == ["0", "1", "2", "3"]
    assert whole == broken
    assert best.best == max(float(row["val_accuracy"]) for row in whole)
    model = keras.models.load_model(tmp_path / "broken.keras")
    one, other = (
        keras.models.load_model(tmp_path / f"{name}.keras").get_weights()
        for name in ("whole", "broken")
    )
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert model(blobs(2)[0]).shape == (2, 3)


def test_batches_only_where_they_are_asked_for() -> None:
    seen: list[Any] = []
    each = kc.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(batch),
        on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])),
        on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]),
    )
    trainer, _ = run(None, given=[each], max_epochs=2)
    batches = [0, 1, 2, 3, 4]
    assert [s for s in seen if isinstance(s, int)] == batches * 2
    assert [s[0] for s in seen if isinstance(s, tuple)] == batches * 2
    means = [s[1] for s in seen if isinstance(s, tuple)]
    epochs = [s for s in seen if isinstance(s, float)]
    assert means[4::5] == pytest.approx(epochs, rel=1e-12)  # the running mean ends at the epoch's
    plain, _ = run(None, given=[], max_epochs=2)
    assert differing(trainer, plain) == []

    def wakes(callback: Any) -> bool:
        return Hooks(trainer, [KerasCallback(callback)]).every_batch

    assert wakes(each)
    assert wakes(kc.TerminateOnNaN())  # by Keras's old name of the hook
    assert wakes(kc.ModelCheckpoint("a.keras", save_freq=3))
    for idle in (kc.ModelCheckpoint("a.keras"), kc.EarlyStopping(), kc.LambdaCallback(), Tally()):
        assert not wakes(idle)
    two = Hooks(trainer, [KerasCallback(kc.History()), KerasCallback(Tally())])
    assert list(two.named) == ["KerasCallback[History]-0", "KerasCallback[Tally]-0"]


def test_a_callback_stops_in_mid_epoch_and_the_model_is_left_as_it_was() -> None:
    class Compiled(Net):
        def build_model(self) -> Any:
            model = dense()
            model.compile("sgd", "mse")
            self.former = model.optimizer
            return model

    rates = []

    class Stop(kc.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))
            self.model.stop_training = batch == 2

        def on_train_end(self, logs: Any = None) -> None:
            assert self.model.stop_training
            assert self.params == {"epochs": 3, "steps": STEPS, "verbose": 0}

    task = Compiled(optimizer=lambda: keras.optimizers.SGD(0.5))
    trainer = make_trainer(max_epochs=3, callbacks=[Stop(), Tally()], engine="eager")
    trainer.fit(task, busy_data(33))
    assert (trainer.progress.step, trainer.stop_reason) == (3, "Stop set model.stop_training")
    assert rates == [0.5] * 3
    assert task.model.optimizer is task.former
    assert not task.model.stop_training


def test_validation_sets_by_name_and_validation_alone() -> None:
    seen: dict[str, Any] = {}

    class Look(kc.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen[f"epoch {epoch}"] = set(logs)

        def on_test_end(self, logs: Any = None) -> None:
            seen["test"] = set(logs)

    data = busy_data(33, val={"easy": blobs(9), "hard": blobs(9, seed=2)})
    trainer = make_trainer(max_epochs=2, val_every="2ep", callbacks=[Look()], engine="eager")
    task = Net()
    trainer.fit(task, data)
    train = {"loss", "accuracy", "learning_rate"}
    sets = {"easy_loss", "easy_accuracy", "hard_loss", "hard_accuracy"}
    assert seen == {
        "epoch 0": train,  # no validation, no values of one
        "epoch 1": train | {f"val_{name}" for name in sets},
        "test": sets,
    }
    seen.clear()
    trainer.validate(task, data)
    assert seen == {"test": sets}
