"""Statistics, timing, norms and functions as callbacks, on a fake of the run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from fake_run import Clock, FakeTrainer
from helpers import FEATURES

from framework import Callback, UserError
from framework.callbacks.device_stats import DeviceStats
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.lambda_callback import LambdaCallback
from framework.callbacks.timer import Timer
from framework.callbacks.weight_norms import WeightNorms
from framework.core.profile import Profile
from framework.run.hooks import Hooks


class Run(FakeTrainer):
    def __init__(self, clock: Clock | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.logged: dict[str, float] = {}
        self.profile = Profile(clock or Clock())

    def log_metrics(self, metrics: dict[str, float]) -> None:
        self.logged |= metrics


# ---- statistics and norms


def test_the_memory_is_what_the_system_says() -> None:
    run, stats = Run(), DeviceStats()
    stats.on_fit_start(run)
    stats.on_log(run, {})
    pages = int(Path(f"/proc/{os.getpid()}/statm").read_text().split()[1])
    wanted = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    assert run.logged["system/process_memory_mb"] == pytest.approx(wanted, rel=0.05)
    assert 0 <= run.logged["system/cpu_percent"] <= 100
    assert 0 < run.logged["system/memory_percent"] < 100


def test_a_missing_package_is_told(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(
        UserError, match=r"device_stats needs psutil, which is not installed"
    ) as error:
        DeviceStats()
    assert 'pip install "keras-task-framework[stats]"' in str(error.value)


def test_norms_are_those_of_numpy() -> None:
    sizes = {"a": 4, "b": 3}
    layers = [keras.layers.Dense(n, name=name) for name, n in sizes.items()]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers])
    run = Run(model=model)
    WeightNorms().on_wake(run)
    flat = {name: np.concatenate([w.ravel() for w in model.get_layer(name).get_weights()])
            for name in sizes}  # fmt: skip
    total = np.linalg.norm(np.concatenate(list(flat.values())))
    assert run.logged == pytest.approx({"train/weight_norm": total})
    WeightNorms(per_layer=True).on_wake(run)
    norms = {f"train/weight_norm/{name}": np.linalg.norm(w) for name, w in flat.items()}
    assert run.logged == pytest.approx({"train/weight_norm": total, **norms})


# ---- time


def spend(run: Run, timer: Timer, clock: Clock, seconds: float) -> None:
    """Train one epoch of 100 steps, then validate for 2 seconds."""
    timer.on_epoch_start(run)
    clock.now += seconds
    run.progress.seconds += seconds
    run.progress.step += 100
    timer.on_log(run, {})
    timer.on_validation_start(run)
    clock.now += 2
    timer.on_validation_end(run, {})
    timer.on_epoch_end(run)


def test_it_logs_the_seconds() -> None:
    clock = Clock()
    run, timer = Run(clock, max_steps=300), Timer()
    timer.on_fit_start(run)
    spend(run, timer, clock, 10)
    assert run.logged == pytest.approx({"time/left": 20, "time/validation": 2, "time/epoch": 12})
    spend(run, timer, clock, 30)
    assert run.logged == pytest.approx({"time/left": 20, "time/validation": 2, "time/epoch": 32})


def test_an_epoch_counts_across_a_restart() -> None:
    clock = Clock()
    run, timer = Run(clock), Timer()
    timer.on_fit_start(run)
    timer.on_epoch_start(run)
    clock.now += 7
    state = timer.state()
    clock.now += 100  # lost: it was not saved
    run, timer = Run(clock), Timer()
    run.progress.batch = 30
    timer.on_fit_start(run)
    timer.load_state(state)
    timer.on_epoch_start(run)
    clock.now += 5
    run.progress.batch = 0
    timer.on_epoch_end(run)
    assert run.logged["time/epoch"] == pytest.approx(12)


def test_it_stops_when_the_whole_time_is_over() -> None:
    clock = Clock()
    run, timer = Run(clock), Timer("1min")
    timer.on_fit_start(run)
    spend(run, timer, clock, 50)
    assert (run.stop_reason, run.logged["time/left"]) == ("", 10)
    spend(run, timer, clock, 50)
    assert run.stop_reason == "timer: 1min are over"
    again = Run(clock)
    again.progress.seconds = 100.0
    Timer("1min").on_fit_start(again)
    assert again.stop_reason
    more = Run(clock)
    more.progress.seconds = 100.0
    Timer("2min").on_fit_start(more)
    assert not more.stop_reason


def test_it_stops_in_mid_epoch_if_told_so() -> None:
    run = Run()
    run.progress.seconds = 61.0
    assert Timer("1min").every is None
    timer = Timer("1min", at="step")
    assert timer.every is not None
    timer.on_wake(run)
    assert run.stop_reason


@pytest.mark.parametrize(("given", "said"), [(("3ep",), "3ep"), (("1h", "batch"), "at is")])
def test_other_times_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Timer(*given)


# ---- thresholds of early stopping


@pytest.mark.parametrize(
    ("options", "values", "stops_at"),
    [
        ({"stopping_threshold": 0.5}, [0.9, 0.51, 0.5, 0.4], 3),
        ({"divergence_threshold": 2.0}, [0.9, 2.0, 2.1, 0.1], 3),
        ({"divergence_threshold": 2.0}, [0.9, float("nan"), 0.1], 2),
        ({"mode": "max", "stopping_threshold": 0.5}, [0.1, 0.49, 0.6], 3),
        ({"mode": "max", "divergence_threshold": 0.1}, [0.1, 0.2, 0.09], 3),
    ],
)
def test_a_threshold_stops_at_once(options: Any, values: list[float], stops_at: int) -> None:
    run, stop = Run(), EarlyStopping(patience=9, **options)
    stop.on_fit_start(run)
    for count, value in enumerate(values, 1):
        stop.on_epoch_start(run)
        run.progress.step += 100
        run.metrics["val/loss"] = value
        stop.on_validation_end(run, {})
        assert bool(run.stop_reason) == (count >= stops_at), count
        if run.stop_reason:
            break
    # The same command stops again at once; without the threshold it goes on.
    for again, stops in (
        (EarlyStopping(patience=9, **options), True),
        (EarlyStopping(patience=9, mode=options.get("mode", "auto")), False),
    ):
        run = Run()
        again.load_state(stop.state())
        again.on_fit_start(run)
        assert bool(run.stop_reason) == stops


def test_thresholds_are_numbers() -> None:
    with pytest.raises(UserError, match="stopping_threshold is 'a'"):
        EarlyStopping(stopping_threshold="a")  # type: ignore[arg-type]


# ---- functions


def test_functions_are_hooks() -> None:
    seen: list[Any] = []
    callback = LambdaCallback(
        on_log=lambda run, metrics: seen.append(metrics),
        on_epoch_end=lambda run: seen.append(run.progress.step),
        on_fit_end=None,
    )
    run: Any = SimpleNamespace(
        profile=Profile(), progress=SimpleNamespace(step=7), task=SimpleNamespace()
    )
    hooks = Hooks(run, [callback])
    for hook, *more in (("on_log", {"train/loss": 1.0}), ("on_epoch_end",), ("on_fit_end",)):
        hooks(hook, *more)
    assert seen == [{"train/loss": 1.0}, 7]
    assert not hooks.every_batch


def test_only_a_given_hook_wakes_the_host_for_every_batch() -> None:
    assert Hooks(Run(), [LambdaCallback(on_train_batch_end=lambda run: None)]).every_batch
    assert not Hooks(Run(), [Callback()]).every_batch


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"on_epoch_ends": print}, "Did you mean 'on_epoch_end'"),
        ({"on_log": 3}, "on_log is 3, not a function"),
        ({"on_wake": print}, "on_wake and every go together"),
        ({"every": "3st"}, "on_wake and every go together"),
    ],
)
def test_other_hooks_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        LambdaCallback(**given)
    assert said in str(error.value)
