"""Logs the throughput of a run, and records TensorFlow's profile of some of its steps."""

from __future__ import annotations

import tensorflow as tf

from framework.callback import Callback, RunView
from framework.every import Every


class Throughput(Callback):
    """Log the throughput of each epoch.

    It logs `perf/steps_per_second` and `perf/examples_per_second`, relative to the time in steps,
    and `perf/time_in_steps`, the share of the wall time since the start of the run that was spent
    in steps. `trainer.profiler=simple` adds it. Without it, two identical runs have identical
    logs.

    Example:
        >>> Trainer(run_dir="runs/a", profiler="simple")
    """

    def on_epoch_start(self, run: RunView) -> None:
        """Remember the counts and the time at the start of the epoch."""
        self._from = run.progress.step, run.progress.examples, self._seconds(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Log the throughput."""
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
    """Record a TensorFlow profile of a few seconds, for TensorBoard's Profile tab.

    It records the first seconds of training, when the step is compiled already. A longer profile
    shows no more and is slow to open. `trainer.profiler=trace` adds it. TensorBoard needs its
    profile plugin to show it (`pip install xprof`).

    Example:
        >>> Trainer(run_dir="runs/a", profiler="trace")

    Args:
        seconds: How long to record.
    """

    def __init__(self, seconds: int = 3) -> None:
        self.every = Every(f"{seconds}s")
        self._recording = False

    def on_fit_start(self, run: RunView) -> None:
        """Start recording."""
        if run.run_dir is not None:
            tf.profiler.experimental.start(str(run.run_dir / "train"))
            self._recording = True

    def on_wake(self, run: RunView) -> None:
        """Stop recording."""
        self._end()

    def on_fit_end(self, run: RunView) -> None:
        """Stop recording if the run was shorter."""
        self._end()

    def _end(self) -> None:
        if self._recording:
            tf.profiler.experimental.stop()
            self._recording = False
