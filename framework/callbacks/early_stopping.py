"""Stops a run when a metric no longer improves."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from framework.callback import RunView
from framework.callbacks.patience import Patience

_WHERE = "callbacks.early_stopping"


class EarlyStopping(Patience):
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
        stopping_threshold: Stop as soon as the metric is this good or better. None: never.
        divergence_threshold: Stop as soon as the metric is worse than this, or NaN. None: never.

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
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, patience, min_delta, where=_WHERE)
        self.start_from_epoch = self._whole("start_from_epoch", start_from_epoch, least=0)
        self.stopping_threshold = self._number("stopping_threshold", stopping_threshold)
        self.divergence_threshold = self._number("divergence_threshold", divergence_threshold)
        self._last: float | None = None

    def on_fit_start(self, run: RunView) -> None:
        """Check that `monitor` will be logged; stop at once if the run was stopped before."""
        super().on_fit_start(run)
        self._stop_if_due(run)

    def judge(self, run: RunView, value: float) -> None:
        """Stop the run if the value is no improvement, once too often."""
        if self._epoch <= self.start_from_epoch:
            return
        self._last = value
        if self.monitor.improves(value, self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        self._stop_if_due(run)

    def state(self) -> dict[str, Any]:
        """Return the best value so far, the evaluations since, and what thresholds judge."""
        if self.stopping_threshold is None and self.divergence_threshold is None:
            return super().state()
        return {**super().state(), "last": self._last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        last = state.get("last")  # only with thresholds
        self._last = None if last is None else float(last)

    def _stop_if_due(self, run: RunView) -> None:
        reason = self._beyond() or self._waited_too_long()
        if reason:
            run.stop(f"early stopping: {self.monitor.name} {reason}")

    def _beyond(self) -> str:
        """Return how the last value is beyond a threshold; empty if it is not."""
        value, good, bad = self._last, self.stopping_threshold, self.divergence_threshold
        if value is None:
            return ""
        sign = 1 if self.monitor.mode == "max" else -1
        if good is not None and sign * value >= sign * good:
            return f"is {value:.4g}, and stopping_threshold={good:g}"
        if bad is not None and not sign * value >= sign * bad:  # NaN is not
            return f"is {value:.4g}, and divergence_threshold={bad:g}"
        return ""

    def _waited_too_long(self) -> str:
        if self.waited < self.patience:
            return ""
        unit = "validation" if self._stage == "val" else "epoch"
        times = f"{self.waited} {unit}{'s' if self.waited > 1 else ''}"
        missed = "been a number" if self.best is None else f"improved on {self.best:.4g}"
        return f"has not {missed} for {times}"

    def _number(self, name: str, value: Any) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
            self._refuse(name, value, "a number, or null for none")
        return float(value)
