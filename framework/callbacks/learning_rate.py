"""Logs the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from framework.callback import Callback, RunView
from framework.compat import learning_rate_of
from framework.schedules import current_rate


class LearningRateMonitor(Callback):
    """Log the learning rate with every row of training metrics; every run does.

    It is logged as `train/learning_rate`, or as `train/learning_rate/<name>` if there are several
    optimizers. The value is the rate of the next update. The host computes it when it logs a row
    anyway, so it does not slow the compiled loop.

    Example:
        >>> LearningRateMonitor().on_log(run, {})
    """

    def __init__(self) -> None:
        self._schedules: dict[int, Callable[[Any], Any]] = {}

    def on_fit_start(self, run: RunView) -> None:
        """Compile schedules: operation by operation, one may take longer than the loop's steps."""
        self._schedules = {}
        for optimizer in run.optimizers.values():
            rate = learning_rate_of(optimizer)
            if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
                self._schedules[id(optimizer)] = tf.function(rate.__call__, autograph=False)

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Log the rate next to `metrics`."""
        rates = {name: self._rate(each) for name, each in run.optimizers.items()}
        several = len(rates) > 1
        run.log_metrics(
            {f"train/learning_rate{f'/{name}' * several}": rate for name, rate in rates.items()}
        )

    def on_fit_end(self, run: RunView) -> None:
        """Forget the schedules."""
        self._schedules = {}

    def _rate(self, optimizer: keras.Optimizer) -> float:
        compiled = self._schedules.get(id(optimizer))
        if compiled is None:
            return current_rate(optimizer)
        return float(compiled(tf.convert_to_tensor(optimizer.iterations.numpy())))
