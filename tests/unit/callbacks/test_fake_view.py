"""Every built-in callback runs on a small fake of `RunView`, and assigns nothing to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

import framework.callbacks as callbacks
from framework import Callback, RunView
from framework.config import TrainerConfig
from framework.core.profile import Profile
from framework.core.progress import Progress


class FakeView:
    """A run that stands still, and refuses to be changed but by its methods."""

    def __init__(self, run_dir: Path) -> None:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="head")])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        task = SimpleNamespace(model=model, metrics={}, runtime=SimpleNamespace(variables={}))
        self.asked: list[str] = []
        self.config = TrainerConfig(max_epochs=3)
        self.progress = Progress(epoch=1, batch=0, step=10, examples=80, seconds=1.0)
        self.stage, self.status, self.stop_reason, self.engine = "fit", "running", "", "graph"
        self.validating = self.already_complete = self.holds_state = False
        self.has_validation = self.at_epoch_end = self.is_chief = True
        self.updates = None
        self.task, self.optimizers, self.callbacks = task, {"optimizer": optimizer}, []
        self.run_dir, self.checkpoints, self.data_info = run_dir, None, {}
        self.engine_reason, self.best = "", {"step": 10, "metric": "val/loss", "value": 2.0}
        self.steps_per_epoch, self.total_steps = 10, 30
        self.metrics = {"train/loss": 1.0, "val/loss": 2.0}
        self.metric_names = {"train/loss", "val/loss"}
        self.profile, self.recovers_from_overflow = Profile(), False
        self.done = True

    def __setattr__(self, name: str, value: Any) -> None:
        assert "done" not in vars(self), f"a callback assigns {name}"
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not inspect.isfunction(getattr(RunView, name, None)):
            raise AttributeError(name)
        answers = {"measured_at": 10, "epoch_so_far": dict(self.metrics), "steps_not_finite": 0}
        return lambda *_, **__: (self.asked.append(name), answers.get(name))[1]


class OfKeras(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen = epoch, dict(logs)


MADE: dict[str, Callable[[], Callback]] = {
    "Calibration": callbacks.Calibration,
    "Checkpoint": lambda: callbacks.Checkpoint("val/loss", save_every="5st"),
    "ConfusionMatrix": lambda: callbacks.ConfusionMatrix(every="1ep"),
    "DeviceStats": callbacks.DeviceStats,
    "EMA": lambda: callbacks.EMA(0.9),
    "EarlyStopping": lambda: callbacks.EarlyStopping("val/loss"),
    "FineTuning": lambda: callbacks.FineTuning([{"layers": "head", "epoch": 2, "ramp": 3}]),
    "FirstBatch": callbacks.FirstBatch,
    "Freeze": lambda: callbacks.Freeze("head", until=2),
    "Histograms": callbacks.Histograms,
    "KerasCallback": lambda: callbacks.KerasCallback(OfKeras()),
    "LambdaCallback": lambda: callbacks.LambdaCallback(on_epoch_end=lambda run: run.metrics),
    "LearningRateMonitor": callbacks.LearningRateMonitor,
    "ModelSummary": callbacks.ModelSummary,
    "NotebookProgress": lambda: callbacks.NotebookProgress(output=lambda: lambda html, text: None),
    "ProgressBar": callbacks.ProgressBar,
    "ReduceOnPlateau": lambda: callbacks.ReduceOnPlateau("val/loss"),
    "RocPr": callbacks.RocPr,
    "SWA": lambda: callbacks.SWA(start=2),
    "StopOnNaN": callbacks.StopOnNaN,
    "Throughput": callbacks.Throughput,
    "Timer": lambda: callbacks.Timer("1h"),
    "Trace": callbacks.Trace,
    "WeightNorms": lambda: callbacks.WeightNorms(per_layer=True),
    "WorstMistakes": callbacks.WorstMistakes,
}


def test_all_of_them_are_tried() -> None:
    assert set(MADE) == set(callbacks.__all__)


@pytest.mark.parametrize("name", MADE)
def test_a_callback_needs_no_more_than_the_view(name: str, tmp_path: Path) -> None:
    view: Any = FakeView(tmp_path)
    callback = MADE[name]()
    view.callbacks.append(callback)
    row = {"train/loss": 1.0}
    callback.on_setup(view)
    callback.on_fit_start(view)
    callback.on_epoch_start(view)
    for hook, *more in (
        ("on_train_batch_start",),
        ("on_train_batch_end",),
        ("on_log", row),
        ("on_validation_start",),
        ("on_validation_end", {"val/loss": 2.0}),
        ("on_wake",),
        ("on_wake_end",),
        ("on_epoch_end",),
    ):
        getattr(callback, hook)(view, *more)
    state = callback.state()
    callback.on_fit_end(view)
    MADE[name]().load_state(state)
