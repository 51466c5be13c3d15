"""Judging a metric again and again, with patience."""

from __future__ import annotations

import numbers
import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NoReturn

from framework.callback import Callback, RunView
from framework.callbacks.monitor import Monitor
from framework.options.option import refuse


class Patience(Callback):
    """Judge a metric, and count the evaluations without an improvement.

    A `val/…` metric is judged after every validation, a `train/…` metric at the end of every
    epoch. A value without weight is not judged.

    Attributes:
        best: The best value so far. None before the first judgement.
        waited: Evaluations since.
    """

    def __init__(
        self, monitor: str, mode: str, patience: int, min_delta: float, *, where: str
    ) -> None:
        self._where = where
        given: object = monitor
        if not isinstance(given, str):
            self._refuse("monitor", given, "a full name: val/loss or train/loss")
        self._stage, _, name = monitor.partition("/")
        if self._stage not in ("train", "val") or not name:
            name = re.sub("^(val|train)_", "", monitor.rpartition("/")[2]) or "loss"
            self._refuse("monitor", monitor, f"a full name: val/{name} or train/{name}")
        self.patience = self._whole("patience", patience, least=1)
        self.monitor = Monitor(monitor, mode, min_delta=min_delta, where=where)
        self.best: float | None = None
        self.waited = 0
        self._epoch = 1

    def on_fit_start(self, run: RunView) -> None:
        """Check that `monitor` will be logged."""
        self.monitor.check(run)

    def on_epoch_start(self, run: RunView) -> None:
        """Remember which epoch starts."""
        self._epoch = run.progress.epoch + 1

    def on_epoch_end(self, run: RunView) -> None:
        """Check a `train/…` metric."""
        # A run that ends in mid-epoch checks it after resuming, at the real end of the epoch.
        if self._stage == "train" and run.progress.epoch >= self._epoch:
            self._judge(run)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Check a `val/…` metric, only during `fit` and after the first step."""
        if self._stage == "val" and run.stage == "fit" and run.progress.step > 0:
            self._judge(run)

    def state(self) -> dict[str, Any]:
        """Return the best value so far and the evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        best = state["best"]
        self.best = None if best is None else float(best)
        self.waited = int(state["waited"])

    def _judge(self, run: RunView) -> None:
        value = self.monitor.value(run)
        if value is not None:  # else it was not measured: neither better nor worse
            self.judge(run, value)

    @abstractmethod
    def judge(self, run: RunView, value: float) -> None:
        """Compare a new value with the best one, and act on it."""

    def _whole(self, name: str, value: Any, *, least: int) -> int:
        """Return a whole number, or refuse what is none, or too small."""
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least:
            self._refuse(name, value, f"a whole number of at least {least}")
        return int(value)

    def _refuse(self, name: str, value: object, wanted: str) -> NoReturn:
        refuse(name, value, wanted, self._where)
