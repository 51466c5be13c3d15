"""Early stopping, against a definition of three lines."""

from __future__ import annotations

import math

import pytest
from fake_run import FakeTrainer
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.callbacks.early_stopping import EarlyStopping
from framework.errors import UserError


def epochs(stop: EarlyStopping, values: list[float], trainer: FakeTrainer | None = None) -> int:
    """Return how many epochs ran before the stop, each with a validation at its end."""
    trainer = trainer or FakeTrainer()
    stop.on_fit_start(trainer)
    name = stop.monitor.name
    for count, value in enumerate(values):
        if trainer.stop_reason:
            return count
        stop.on_epoch_start(trainer)
        trainer.progress.step += 100
        trainer.metrics[name] = value
        if name.startswith("val/"):
            stop.on_validation_end(trainer, {name: value})
        trainer.progress.epoch += 1
        stop.on_epoch_end(trainer)
    return len(values)


def reference(values: list[float], patience: int, mode: str, min_delta: float) -> int:
    """Count epochs until none of the last `patience` values beat the best one before them."""
    sign = 1 if mode == "max" else -1
    best, since = -math.inf, 0
    for count, value in enumerate(values):
        better = math.isfinite(value) and sign * value > best + min_delta
        best, since = (sign * value, 0) if better else (best, since + 1)
        if since == patience:
            return count + 1
    return len(values)


# Multiples of 1/8: their differences are exact.
LOSSES = st.lists(st.integers(-20, 20).map(lambda n: n / 8) | st.just(math.nan), max_size=20)


@settings(deadline=None)
@given(LOSSES, st.integers(1, 4), st.sampled_from(["min", "max"]), st.sampled_from([0.0, 0.25]))
def test_it_stops_when_patience_runs_out(values, patience, mode, min_delta):
    for monitor in ("val/loss", "train/loss"):
        stop = EarlyStopping(monitor, mode, patience, min_delta)
        assert epochs(stop, values) == reference(values, patience, mode, min_delta)


@settings(deadline=None)
@given(LOSSES, st.integers(0, 20), st.integers(1, 4))
def test_a_restart_changes_nothing(values, cut, patience):
    whole = epochs(EarlyStopping(patience=patience), values)
    first = EarlyStopping(patience=patience)
    trainer = FakeTrainer()
    done = epochs(first, values[:cut], trainer)
    second = EarlyStopping(patience=patience)
    second.load_state(first.state())
    again = FakeTrainer()
    again.progress = trainer.progress
    assert done + epochs(second, values[done:], again) == whole


@pytest.mark.parametrize(
    ("monitor", "values", "reason"),
    [
        (
            "val/loss",
            [0.4312, 0.5, 0.5, 0.5],
            "val/loss has not improved on 0.4312 for 3 validations",
        ),
        (
            "train/accuracy",
            [0.9, 0.5, 0.5, 0.5],
            "train/accuracy has not improved on 0.9 for 3 epochs",
        ),
        ("val/loss", [math.nan] * 3, "val/loss has not been a number for 3 validations"),
    ],
)
def test_it_says_why(monitor, values, reason):
    trainer = FakeTrainer()
    epochs(EarlyStopping(monitor), values, trainer)
    assert trainer.stop_reason == f"early stopping: {reason}"


def test_a_run_that_was_stopped_stops_at_once_when_started_again():
    trainer = FakeTrainer()
    stop = EarlyStopping(patience=1)
    stop.load_state({"best": 0.5, "waited": 1})
    stop.on_fit_start(trainer)
    assert (
        trainer.stop_reason == "early stopping: val/loss has not improved on 0.5 for 1 validation"
    )
    # More patience than before lets it go on.
    trainer = FakeTrainer()
    more = EarlyStopping(patience=2)
    more.load_state({"best": 0.5, "waited": 1})
    more.on_fit_start(trainer)
    assert trainer.stop_reason == ""


def test_the_first_epochs_can_be_let_pass():
    # Without the wait, the second epoch's rise would stop it.
    assert epochs(EarlyStopping(patience=1), [1.0, 2.0, 3.0, 2.5, 2.6]) == 2
    assert epochs(EarlyStopping(patience=1, start_from_epoch=2), [1.0, 2.0, 3.0, 2.5, 2.6]) == 5


def test_an_unfinished_epoch_is_not_judged():
    stop = EarlyStopping("train/loss", patience=1)
    trainer = FakeTrainer()
    stop.on_epoch_start(trainer)
    trainer.progress.step = trainer.progress.batch = 50
    trainer.metrics["train/loss"] = 1.0
    stop.on_epoch_end(trainer)
    assert stop.state() == {"best": None, "waited": 0}


def test_validations_outside_training_are_not_judged():
    stop = EarlyStopping(patience=1)
    trainer = FakeTrainer()
    trainer.metrics["val/loss"] = 1.0
    stop.on_validation_end(trainer, {"val/loss": 1.0})  # A sanity check, before the first step.
    trainer.progress.step, trainer.stage = 100, "validate"
    stop.on_validation_end(trainer, {"val/loss": 1.0})
    assert stop.state() == {"best": None, "waited": 0}


def test_an_unknown_metric_is_refused_with_the_closest():
    stop = EarlyStopping("val/acuracy")
    trainer = FakeTrainer()
    trainer.progress.step = 100
    trainer.metrics = {"val/accuracy": 0.5, "val/loss": 1.0, "train/loss": 1.0}
    with pytest.raises(UserError) as error:
        stop.on_validation_end(trainer, trainer.metrics)
    assert error.value.where == "callbacks.early_stopping.monitor"
    assert "'val/accuracy'" in str(error.value.fix)


def test_without_validation_it_says_how_to_get_one():
    trainer = FakeTrainer()
    trainer.has_validation = False
    with pytest.raises(UserError, match=r"data\.val_fraction=0\.1") as error:
        EarlyStopping().on_fit_start(trainer)
    assert error.value.where == "callbacks.early_stopping.monitor"
    EarlyStopping("train/loss").on_fit_start(trainer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monitor", "loss"),
        ("monitor", "test/loss"),
        ("monitor", "val/"),
        ("mode", "maximum"),
        ("patience", 0),
        ("patience", True),
        ("patience", 1.5),
        ("min_delta", -0.1),
        ("min_delta", math.nan),
        ("start_from_epoch", -1),
        ("start_from_epoch", 0.5),
    ],
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(UserError) as error:
        EarlyStopping(**{name: value})
    assert error.value.where == f"callbacks.early_stopping.{name}"
