"""Measuring a run: its throughput in the logs, and TensorFlow's profile of some of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from framework.callback import Callback
from framework.every import Every

if TYPE_CHECKING:
    from framework.callback import RunView


class Throughput(Callback):
    """Log how fast an epoch was, at its end.

    As `perf/steps_per_second` and `perf/examples_per_second`, of the time in steps, and
    `perf/time_in_steps`, the share of the wall time since the run began that they had.
    `trainer.profiler=simple` adds it. Without it the logs of two equal runs are equal.

    Example:
        >>> Trainer(run_dir="runs/a", profiler="simple")
    """

    def on_epoch_start(self, run: RunView) -> None:
        """Remember where the epoch begins."""
        self._from = run.progress.step, run.progress.examples, self._seconds(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Log what came of it."""
        step, examples, seconds = self._from
        spent = max(self._seconds(run) - seconds, 1e-9)
        run.log_metrics(
            {
                "perf/steps_per_second": (run.progress.step - step) / spent,
                "perf/examples_per_second": (run.progress.examples - examples) / spent,
                "perf/time_in_steps": run.profile.share("steps"),
            }
        )

    def _seconds(self, run: RunView) -> float:
        return run.profile.seconds()["steps"]


class Trace(Callback):
    """Record what TensorFlow does in some seconds of training, for TensorBoard's Profile tab.

    Of the first ones, which are compiled by then; a longer profile says no more and is hard to
    open. `trainer.profiler=trace` adds it. Looking at it needs TensorBoard's profile plugin
    (`pip install xprof`).

    Example:
        >>> Trainer(run_dir="runs/a", profiler="trace")

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: int = 3) -> None:
        self.every = Every(f"{seconds}s")
        self._recording = False

    def on_fit_start(self, run: RunView) -> None:
        """Begin."""
        if run.run_dir is not None:
            tf.profiler.experimental.start(str(run.run_dir / "tensorboard"))
            self._recording = True

    def on_wake(self, run: RunView) -> None:
        """End: enough is seen."""
        self._end()

    def on_fit_end(self, run: RunView) -> None:
        """End, if the run was shorter."""
        self._end()

    def _end(self) -> None:
        if self._recording:
            tf.profiler.experimental.stop()
            self._recording = False
