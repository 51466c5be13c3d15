"""Collect metrics from the device and pass them to the loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework.core.progress import Progress
from framework.core.state import State, load_variables, variables_state
from framework.logger import Logger
from framework.loggers.combined import CombinedLogger
from framework.step.check_logged import checked_name, number_of
from framework.step.metric_sums import Accumulator, Sums, add_sums, means


class MetricLog:
    """Turn the accumulated values of the steps into rows, and give them to the loggers.

    A training row holds each value's mean over the steps since the last row. At the end of an epoch
    it also holds the mean over the epoch, as `<name>_epoch`. Only a Keras metric itself can combine
    its values, so it is reported as accumulated since the start of the epoch.

    Example:
        >>> book.log_train(epoch_over=True)
        {'train/loss': 2.31, 'train/accuracy': 0.41, 'train/loss_epoch': 2.62, …}
        >>> book.latest["train/loss"]       # an epoch's mean, once there is one
        2.62

    Attributes:
        logger: All loggers as one.
        latest: The latest value of every metric by full name.
        measured: The step at which each metric was measured.
        not_finite: How often each training value was not finite since the row before the last.
        train: The accumulator of training values; the trainer sets it when a run starts.
    """

    def __init__(
        self, loggers: Sequence[Logger], progress: Progress, saved: Callable[[], int | None]
    ) -> None:
        self.logger, self.progress = CombinedLogger(loggers), progress
        self.latest: dict[str, float] = {}
        self.measured: dict[str, int] = {}
        self.not_finite: dict[str, float] = {}
        self.train: Accumulator
        self._epoch: Sums = {}
        self._saved = saved
        self._open, self._durable = False, saved()
        self._row: dict[str, float] | None = None

    def open(self, run_dir: Path | None, step: int | None) -> None:
        """Open the loggers; drop what an earlier run logged past `step`, unless it is None."""
        if run_dir is not None:
            self.logger.open(run_dir, step)
            self._open = True

    def close(self, status: str, best: Mapping[str, Any] | None) -> None:
        """Tell the loggers how the stage ended, if they are open, and close them."""
        try:
            if self._open:
                self._mark_durable()
                self.logger.log_end(status, self.latest, best)
        finally:
            self._open = False
            self.logger.close()

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log values, by full name, at the current step."""
        values = {checked_name(name): number_of(name, value) for name, value in metrics.items()}
        self.latest.update(values)
        self.measured.update(dict.fromkeys(values, self.progress.step))
        self._give(values)

    @contextmanager
    def one_row(self) -> Iterator[None]:
        """Pass what is logged in the body to the loggers at its end, as one row."""
        self._row = {}
        try:
            yield
        finally:
            row, self._row = self._row, None
            if row:
                self._give(row)

    def _give(self, values: Mapping[str, float]) -> None:
        if self._row is not None:
            self._row |= values
            return
        self.logger.log_metrics(values, self.progress.step, self.progress.current_epoch)
        self._mark_durable()

    def _mark_durable(self) -> None:
        step = self._saved()
        if step is not None and step != self._durable:
            self._durable = step
            self.logger.mark_durable(step)

    def log_train(
        self, *, epoch_over: bool, extra: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Read and reset the training sums; log them as a row with `extra` values, and return it.

        The last row of an epoch includes the epoch's means.
        """
        rows = self.train.rows()
        sums: Sums = {name: (total, weight) for name, (total, weight, _) in rows.items()}
        self.not_finite = {f"train/{name}": bad for name, (_, _, bad) in rows.items()}
        self.train.reset()
        self._epoch = add_sums(self._epoch, sums)
        results = self.train.results()
        row = {f"train/{name}": value for name, value in {**means(sums), **results}.items()}
        row.update(extra or {})
        if not epoch_over:
            # Covers only part of the epoch: shown until the epoch's mean exists, but not recorded.
            self.latest |= {k: v for k, v in row.items() if k not in self.measured}
            self.latest |= extra or {}
            self._give(row)
            return row
        epoch = {**means(self._epoch), **results}
        row |= {f"train/{name}_epoch": value for name, value in epoch.items()}
        latest = {**self.latest, **(extra or {})}
        self.log(row)
        means_of_epoch = {f"train/{name}": value for name, value in epoch.items()}
        self.latest = latest | means_of_epoch
        self.measured |= dict.fromkeys(means_of_epoch, self.progress.step)
        return row

    def epoch_so_far(self) -> dict[str, float]:
        """Return the means over the current epoch by full name, without resetting anything."""
        sums = add_sums(self._epoch, self.train.sums())
        values = {**means(sums), **self.train.results()}
        return {f"train/{name}": value for name, value in values.items()}

    def start_epoch(self) -> None:
        """Reset the sums of the last epoch."""
        self._epoch = {}
        self.train.reset()
        for metric in self.train.keras_metrics.values():
            metric.reset_state()

    def state(self) -> State:
        """Return the sums in mid-epoch, and the latest values."""
        metrics = self.train.keras_metrics.items()
        return {
            "latest": dict(self.latest),
            "measured": dict(self.measured),
            "epoch": {name: list(pair) for name, pair in self._epoch.items()},
            "row": {name: list(row) for name, row in self.train.rows().items()},
            "keras": {name: variables_state(metric.variables) for name, metric in metrics},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.latest, self.measured = dict(state["latest"]), dict(state["measured"])
        self._epoch = {name: (total, weight) for name, (total, weight) in state["epoch"].items()}
        self.train.load(state["row"])
        for name, metric in self.train.keras_metrics.items():
            if name in state["keras"]:
                load_variables(metric.variables, state["keras"][name], f"metric {name}")
