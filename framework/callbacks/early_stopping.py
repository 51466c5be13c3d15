"""Stops a run when a metric no longer improves."""

from __future__ import annotations

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
        super().__init__(monitor, mode, patience, min_delta, where=_WHERE)
        self.start_from_epoch = self._whole("start_from_epoch", start_from_epoch, least=0)

    def on_fit_start(self, run: RunView) -> None:
        """Check that `monitor` will be logged; stop at once if the run was stopped before."""
        super().on_fit_start(run)
        self._stop_if_due(run)

    def judge(self, run: RunView, value: float) -> None:
        """Stop the run if the value is no improvement, once too often."""
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
