"""Logs the learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from framework.callback import Callback, RunView
from framework.schedules import current_rate


class LearningRateMonitor(Callback):
    """Log the learning rate with every row of training metrics.

    It is logged as `train/learning_rate`, or as `train/learning_rate/<name>` if there are several
    optimizers. The value is the rate of the next update. The host computes it when it logs a row
    anyway, so it does not slow the compiled loop.

    Example:
        >>> Trainer(run_dir="runs/a", log_every="50st", callbacks=[LearningRateMonitor()])
    """

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Log the rate next to `metrics`."""
        rates = {name: current_rate(each) for name, each in run.optimizers.items()}
        several = len(rates) > 1
        run.log_metrics(
            {f"train/learning_rate{f'/{name}' * several}": rate for name, rate in rates.items()}
        )
