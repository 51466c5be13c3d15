"""Shows the progress: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

from rich.console import Console

from framework.callback import Callback, RunView
from framework.callbacks.live_line import Display, Line, Screen, in_order
from framework.every import Every
from framework.text.escape import one_line

_SECONDS_BETWEEN_LINES = 10.0
_RATE_WINDOW = 10.0


class ProgressBar(Callback):
    """Show epoch, step, speed, time left and the latest metrics; keep one line per epoch.

    On a terminal, one line is redrawn in place, at most 10 times a second. It uses only values
    that are on the host already and fetches nothing from the device. Log lines, warnings and
    prints appear above it. In a pipe, a file, CI, a dumb terminal or a notebook, there are only
    plain lines: one per epoch, and one every 10 seconds within a long epoch.

    The line of an epoch shows its training metrics, those of a validation at its end, its wall
    time, and the training examples per second, not counting the time in validation.

    Example:
        >>> bar = ProgressBar(live=False)
        >>> bar.every
        Every(text='0.1s')

    Args:
        console: Where to draw. Default: standard output.
        live: Redraw a bar in place (True), print plain lines only (False), or decide from the
            output (None).
        clock: Returns monotonic seconds; replaced in tests.
    """

    every = Every("0.1s")

    def __init__(
        self,
        console: Console | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._display = Display(console or Screen(highlight=False), live, clock)
        self._epoch = 1
        self._status = ""
        self._train: dict[str, float] = {}
        self._pending: tuple[int, dict[str, float]] | None = None
        self._rate = _Rate()
        self._started = self._validation_started = clock()
        self._validated = 0.0
        self._examples = 0
        self._line_at = clock()
        self._line_step: int | None = None

    def on_fit_start(self, run: RunView) -> None:
        """Reset the values of an earlier run."""
        self._train.clear()
        self._begin_epoch(run)

    def on_epoch_start(self, run: RunView) -> None:
        """Start a new bar."""
        self._begin_epoch(run)
        self._show(run)

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Keep the latest training metrics for the next redraw."""
        self._print_pending(run)
        for name, value in metrics.items():
            if name.startswith("train/") and not name.endswith("_epoch"):
                self._train[name] = value

    def on_wake(self, run: RunView) -> None:
        """Redraw the bar, or print a line if the last one is old enough."""
        self._print_pending(run)
        self._rate.add(self._clock(), run.progress.step)
        self._show(run)
        now = self._clock()
        if not self._display.live and now - self._line_at >= _SECONDS_BETWEEN_LINES:
            self._line_at = now
            self._display.print(self._line(run).plain())

    def on_validation_start(self, run: RunView) -> None:
        """Show that a validation is running."""
        self._validation_started = self._clock()
        self._status = "validating"
        self._show(run, urgent=True)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Print the results of `validate`; keep those of a validation in `fit` for later."""
        self._status = ""
        # Otherwise the pause would count as slow training.
        self._rate.clear()
        self._validated += self._clock() - self._validation_started
        if run.stage == "fit":
            self._pending = (run.progress.step, dict(metrics))
        else:
            self._finish(run, metrics, self._validation_started)

    def on_test_start(self, run: RunView) -> None:
        """Show that a test is running."""
        self._started = self._clock()
        self._status = "testing"
        self._show(run, urgent=True)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Print the results of the test."""
        self._finish(run, metrics, self._started)

    def on_predict_start(self, run: RunView) -> None:
        """Show that a prediction is running."""
        self._status = "predicting"
        self._show(run, urgent=True)

    def on_predict_end(self, run: RunView) -> None:
        """Remove the status."""
        self._status = ""
        self._display.stop()

    def on_epoch_end(self, run: RunView) -> None:
        """Print the epoch's line."""
        now = self._clock()
        step, validated = self._pending or (None, {})
        if step != run.progress.step:
            self._print_pending(run)
            validated = {}
        self._pending = None
        parts = [
            self._epoch_name(run),
            *_epoch_metrics(run.metrics),
            *_pairs(in_order(validated, run.metrics)),
        ]
        if run.progress.epoch < self._epoch:
            parts.insert(1, f"ended after {run.progress.batch} steps")
        parts.append(_duration(now - self._started))
        training = now - self._started - self._validated
        examples = run.progress.examples - self._examples
        if examples > 0 and training > 0:
            parts.append(f"{examples / training:,.0f} examples/s")
        self._display.print_parts(parts)
        self._line_at, self._line_step = now, run.progress.step

    def on_exception(self, run: RunView, error: BaseException) -> None:
        """Restore the terminal."""
        self._status = ""
        self._display.stop()

    def on_fit_end(self, run: RunView) -> None:
        """Print the remaining lines, and restore the terminal."""
        self._print_pending(run, last=True)
        self._display.stop()
        if self._line_step is not None and run.progress.step > self._line_step:
            self._display.print(self._line(run).plain())
        self._line_step = None

    def _begin_epoch(self, run: RunView) -> None:
        self._epoch = run.progress.epoch + 1
        self._status = ""
        self._pending = None
        self._rate.clear()
        self._started = self._line_at = self._clock()
        self._line_step = run.progress.step
        self._validated = 0.0
        self._examples = run.progress.examples
        self._rate.add(self._started, run.progress.step)

    def _print_pending(self, run: RunView, last: bool = False) -> None:
        """Print a mid-epoch validation, once it is clear that the epoch did not end with it."""
        if self._pending is None or (self._pending[0] == run.progress.step and not last):
            return
        (step, metrics), self._pending = self._pending, None
        if step > 0:
            parts = [
                self._epoch_name(run),
                f"step {step:,}",
                *_pairs(in_order(metrics, run.metrics)),
            ]
            self._display.print_parts(parts)

    def _finish(self, run: RunView, metrics: Mapping[str, float], started: float) -> None:
        self._status = ""
        self._display.stop()
        seconds = _duration(self._clock() - started)
        self._display.print_parts([*_pairs(metrics), seconds])

    def _show(self, run: RunView, urgent: bool = False) -> None:
        self._display.draw(lambda: self._line(run), urgent)

    def _epoch_name(self, run: RunView) -> str:
        if run.config.max_epochs is None:
            return f"epoch {self._epoch}"
        return f"epoch {self._epoch}/{run.config.max_epochs}"

    def _line(self, run: RunView) -> Line:
        """Return the current content of the line."""
        if run.stage != "fit":
            return Line(self._status)
        progress, length = run.progress, run.steps_per_epoch
        # At the end of an epoch, the trainer counts the batches of the next one already.
        done = length if length and progress.epoch >= self._epoch else progress.batch
        left = self._epoch_name(run)
        if run.config.max_epochs is None and run.total_steps is not None:
            left += f"  step {progress.step}/{run.total_steps}"
        if self._status:
            return Line(f"{left}  {self._status}")
        count = f"{done:{len(str(length))}}/{length}" if length else f"{done} steps"
        speed = self._rate.per_second()
        if speed:
            count += f" {speed:.0f} it/s" if speed >= 10 else f" {speed:.2f} it/s"
            if length:
                count += f" {_clock_time((length - done) / speed)} left"
        return Line(
            left,
            done / length if length else None,
            count,
            _pairs(in_order(self._train, run.metrics)),
        )


class _Rate:
    """Steps per second over the last few seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=256)

    def add(self, now: float, step: int) -> None:
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW:
            self._marks.popleft()

    def clear(self) -> None:
        self._marks.clear()

    def per_second(self) -> float | None:
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (since, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - since) or None


def _epoch_metrics(metrics: Mapping[str, float]) -> list[str]:
    """Return each training metric once, as its mean over the epoch if there is one."""
    chosen: dict[str, float] = {}
    for name, value in metrics.items():
        if name.startswith("train/"):
            if name.endswith("_epoch"):
                chosen[name.removesuffix("_epoch")] = value
            else:
                chosen.setdefault(name, value)
    return _pairs(in_order(chosen, metrics))


def _pairs(metrics: Mapping[str, float]) -> list[str]:
    """Return `val loss 2.6143` for `val/loss`, `loss 2.9950` for `train/loss`."""
    return [
        f"{name.removeprefix('train/').replace('/', ' ', 1)} {_number(value)}"
        if name.startswith(("train/", "val/", "test/"))
        else f"{name} {_number(value)}"
        for name, value in ((one_line(name), value) for name, value in metrics.items())
    ]


def _number(value: float) -> str:
    small = value == 0 or 1e-3 <= abs(value) < 1e5
    return f"{value:.4f}" if small else f"{value:.3g}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else _clock_time(seconds)


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
