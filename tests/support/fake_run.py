"""A run as callbacks see it, and a clock that the test turns: no model, no step."""

from __future__ import annotations

from types import SimpleNamespace

from framework.config import TrainerConfig
from framework.core.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeTrainer:
    """What callbacks may look at, without a model or a step."""

    def __init__(self, steps_per_epoch: int | None = 100, model=None, **options) -> None:
        self.config = TrainerConfig(**{"max_epochs": 2, **options})
        self.task = SimpleNamespace(model=model)
        self.progress = Progress()
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = self.config.max_steps
        self.metrics: dict[str, float] = {}
        self.metric_names: set[str] = set()
        self.stage = "fit"
        self.has_validation = True
        self.stop_reason, self.status = "", "running"
        self.best: dict[str, object] | None = None
        self.data_info: dict[str, object] = {}
        self.engine, self.engine_reason = "graph", ""

    def stop(self, reason: str, *, status: str = "stopped") -> None:
        self.stop_reason, self.status = reason, status

    def keras_metric(self, name: str) -> None:
        """No metric of Keras is logged."""

    def train(self, callback, steps: int, clock: Clock, seconds: float, **metrics: float) -> None:
        """Run one stretch, log what it measured, and wake the callback."""
        progress = self.progress
        progress.step += steps
        progress.batch += steps
        progress.examples += 32 * steps
        if progress.batch == self.steps_per_epoch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        clock.now += seconds
        if metrics:
            row = {f"train/{name}": value for name, value in metrics.items()}
            self.metrics.update(row)
            callback.on_log(self, row)

    def validate(self, callback, clock: Clock, seconds: float, **metrics: float) -> None:
        callback.on_validation_start(self)
        clock.now += seconds
        row = {f"val/{name}": value for name, value in metrics.items()}
        self.metrics.update(row)
        callback.on_validation_end(self, row)

    def end_epoch(self, callback) -> None:
        if self.steps_per_epoch is None:
            self.steps_per_epoch = self.progress.batch
            self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        callback.on_epoch_end(self)
