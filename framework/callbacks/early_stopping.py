"""Stops a run when a metric no longer improves."""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.callback import Callback
from framework.callbacks.monitor import Monitor
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.callback import RunView

_WHERE = "callbacks.early_stopping"


class EarlyStopping(Callback):
    """Stop the run after `patience` evaluations without an improvement.

    A `val/…` metric is judged after every validation, a `train/…` metric at the end of every
    epoch. NaN or an infinite value counts as no improvement. A value with a total weight of zero
    is ignored. The best checkpoint has the weights of the best epoch; the model in memory keeps
    the last ones.

    Example:
        >>> EarlyStopping("val/accuracy", patience=2, min_delta=0.001).monitor.mode
        'max'

    Args:
        monitor: Full name of the metric: `val/loss`, `val/<set>/accuracy`, `train/loss`.
        mode: `min`, `max`, or `auto` to infer it from the Keras metric or the name; an error if
            neither tells.
        patience: Evaluations in a row without improvement before stopping; 1 or more.
        min_delta: Smallest change that counts as an improvement; 0 or more.
        start_from_epoch: Number of epochs to skip before the first comparison; 0 or more.

    Raises:
        UserError: If an argument is out of range; when `fit` starts, if `monitor` needs a
            validation and there is none; at the first comparison, if there is no such metric.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: str = "auto",
        patience: int = 3,
        min_delta: float = 0.0,
        start_from_epoch: int = 0,
    ) -> None:
        given: object = monitor
        if not isinstance(given, str):
            _refuse("monitor", given, "a full name: val/loss or train/loss")
        self._stage, _, name = monitor.partition("/")
        if self._stage not in ("train", "val") or not name:
            name = re.sub("^(val|train)_", "", monitor.rpartition("/")[2]) or "loss"
            _refuse("monitor", monitor, f"a full name: val/{name} or train/{name}")
        if not _is_whole(patience) or patience < 1:
            _refuse("patience", patience, "a whole number of at least 1")
        if not _is_whole(start_from_epoch):
            _refuse("start_from_epoch", start_from_epoch, "a whole number of epochs")
        if start_from_epoch < 0:
            _refuse("start_from_epoch", start_from_epoch, "0 or more")
        self.monitor = Monitor(monitor, mode, min_delta=min_delta, where=_WHERE)
        self.patience = int(patience)
        self.start_from_epoch = int(start_from_epoch)
        self.best: float | None = None
        self.waited = 0
        self._epoch = 1

    def on_fit_start(self, run: RunView) -> None:
        """Check that `monitor` will be logged; stop at once if the run was stopped before."""
        self.monitor.check(run)
        self._stop_if_due(run)

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
        """Return the best value so far, and the number of evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        best = state["best"]
        self.best = None if best is None else float(best)
        self.waited = int(state["waited"])

    def _judge(self, run: RunView) -> None:
        value = self.monitor.value(run)
        if value is None:  # not measured: neither better nor worse
            return
        if self._epoch <= self.start_from_epoch:
            return
        if self.monitor.improves(value, self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        self._stop_if_due(run)

    def _stop_if_due(self, run: RunView) -> None:
        if self.waited < self.patience:
            return
        unit = "validation" if self._stage == "val" else "epoch"
        times = f"{self.waited} {unit}{'s' if self.waited > 1 else ''}"
        missed = "been a number" if self.best is None else f"improved on {self.best:.4g}"
        run.stop(f"early stopping: {self.monitor.name} has not {missed} for {times}")


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"{_WHERE}.{name}", fix=f"Give {wanted}.")
