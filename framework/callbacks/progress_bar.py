"""Shows the progress: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from framework.callback import Callback, RunView
from framework.callbacks.epoch_row import EpochRow, pairs
from framework.callbacks.live_line import Display, Line, Screen, Surface, in_order
from framework.callbacks.pace import Pace
from framework.callbacks.thinning import Thinning
from framework.every import Every
from framework.text.readable import clock_time, duration, is_rate

_SECONDS_BETWEEN_LINES = 10.0
_COMPILING = "compiling ..."


class ProgressBar(Callback):
    """Show epoch, step, speed, time left and the latest metrics; keep one line per epoch.

    On a terminal, one line is redrawn in place, four times a second. It uses only values
    that are on the host already and fetches nothing from the device. Log lines, warnings and
    prints appear above it. In a pipe, a file, CI, a dumb terminal, there are only plain
    lines: one per epoch, and one every 10 seconds within a long epoch. In a notebook, a run has a
    `NotebookProgress` instead.

    The line of an epoch shows its training metrics, those of a validation at its end, its wall
    time, and the training examples per second, not counting the time in validation. It ends with
    `best` if its checkpoint is the best so far. Of more than 50 epochs, only every second, fifth,
    tenth and so on keeps its line, at least one every 10 seconds, and always the last; the bar is
    then that of the whole run.

    Example:
        >>> bar = ProgressBar(live=False)
        >>> bar.every
        Every(text='0.25s')

    Args:
        console: Where to draw. Default: standard output.
        live: Redraw a bar in place (True), print plain lines only (False), or decide from the
            output (None).
        clock: Returns monotonic seconds; replaced in tests.
    """

    every = Every("0.25s")

    def __init__(
        self,
        console: Console | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._display: Surface = Display(console or Screen(highlight=False), live, clock)
        self._epoch = 1
        self._status = ""
        self._train: dict[str, float] = {}
        self._pending: tuple[int, dict[str, float]] | None = None
        self._unprinted: Callable[[], None] | None = None
        self._pace, self._thinning, self._checks = Pace(), Thinning(), Thinning()
        self._validations = 0
        self._started = self._status_since = self._line_at = clock()
        self._validated = 0.0
        self._examples = 0
        self._line_step: int | None = None

    def on_setup(self, run: RunView) -> None:
        """Show that the steps are being compiled."""
        self._begin_status(run, _COMPILING)

    def on_fit_start(self, run: RunView) -> None:
        """Reset the values of an earlier run."""
        self._train.clear()
        now = self._clock()
        self._thinning, self._checks = Thinning(_planned_epochs(run), now), Thinning(None, now)
        self._validations, self._unprinted, self._line_at = 0, None, now
        self._pace.begin(now, run.progress.step)
        self._begin_epoch(run)

    def on_epoch_start(self, run: RunView) -> None:
        """Start a new bar."""
        self._begin_epoch(run)
        self._show(run)

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Keep the latest training metrics for the next redraw."""
        self._print_pending(run)
        for name, value in metrics.items():
            if name.startswith("train/") and not name.endswith("_epoch") and not is_rate(name):
                self._train[name] = value

    def on_wake(self, run: RunView) -> None:
        """Redraw the bar, or print a line if the last one is old enough."""
        self._print_pending(run)
        now = self._clock()
        self._pace.add(now, run.progress.step)
        self._show(run)
        since = max(self._line_at, self._started)
        if not self._display.live and now - since >= _SECONDS_BETWEEN_LINES:
            self._print([self._line(run).plain()])

    def on_validation_start(self, run: RunView) -> None:
        """Show that a validation is running."""
        # Where epochs take no time, the word would only flicker.
        self._begin_status(run, "validating", urgent=not self._thinning.thins)

    def on_evaluation_progress(self, run: RunView, done: int, total: int | None) -> None:
        """Show how far the evaluation is."""
        known = self._status and self._status != _COMPILING
        word = self._status.partition(" ")[0] if known else "evaluating"
        if total:
            left = (self._clock() - self._status_since) * (total - done) / done
            self._status = f"{word} {done}/{total} {clock_time(left)} left"
        else:
            self._status = f"{word} {done} batches"
        self._show(run)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Print the results of `validate`; keep those of a validation in `fit` for later."""
        self._status = ""
        if not self._thinning.thins:
            self._pace.clear()
        self._validated += self._clock() - self._status_since
        if run.stage == "fit":
            self._pending = (run.progress.step, dict(metrics))
        else:
            self._finish(metrics)

    def on_test_start(self, run: RunView) -> None:
        """Show that a test is running."""
        self._begin_status(run, "testing", urgent=True)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Print the results of the test."""
        self._finish(metrics)

    def on_predict_start(self, run: RunView) -> None:
        """Show that a prediction is running."""
        self._begin_status(run, "predicting", urgent=True)

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
        ended_early = run.progress.epoch < self._epoch
        training = now - self._started - self._validated
        examples = run.progress.examples - self._examples
        self._line_step = run.progress.step
        self._end_epoch(
            run,
            EpochRow(
                self._epoch_name(run),
                run.progress.step,
                in_order(_of_epoch(run.metrics), run.metrics),
                in_order(validated, run.metrics),
                f"ended after {run.progress.batch} steps" if ended_early else "",
                now - self._started,
                examples / training if examples > 0 and training > 0 else None,
            ),
        )

    def on_exception(self, run: RunView, error: BaseException) -> None:
        """Restore the terminal."""
        self._status = ""
        self._display.stop()

    def on_fit_end(self, run: RunView) -> None:
        """Print the remaining lines, and restore the terminal."""
        self._print_pending(run, last=True)
        self._display.stop()
        if self._unprinted is not None:  # the last epoch is always shown
            self._unprinted()
        if self._line_step is not None and run.progress.step > self._line_step:
            self._print([self._line(run).plain()])
        self._line_step = None

    def _begin_epoch(self, run: RunView) -> None:
        self._epoch = run.progress.epoch + 1
        self._status = ""
        self._pending = None
        if not self._thinning.thins:
            self._pace.clear()
        self._started = self._clock()
        self._line_step = run.progress.step
        self._validated = 0.0
        self._examples = run.progress.examples
        self._pace.add(self._started, run.progress.step)

    def _begin_status(self, run: RunView, status: str, urgent: bool = False) -> None:
        self._status, self._status_since = status, self._clock()
        self._show(run, urgent)

    def _print_pending(self, run: RunView, last: bool = False) -> None:
        """Print a mid-epoch validation, once it is clear that the epoch did not end with it."""
        if self._pending is None or (self._pending[0] == run.progress.step and not last):
            return
        (step, metrics), self._pending = self._pending, None
        if step == 0:
            return
        values = in_order(metrics, run.metrics)
        self._add_validation(
            run, EpochRow(self._epoch_name(run), step, {}, values, f"step {step:,}")
        )

    def _end_epoch(self, run: RunView, row: EpochRow) -> None:
        """Print the line of an epoch, now or never."""
        mark = self._mark(run, row.step)
        if self._thinning.keeps(self._epoch, self._clock()) or run.stop_reason:
            self._print(row.parts(), mark)
            return
        self._unprinted = lambda: self._print(row.parts(), mark)

    def _add_validation(self, run: RunView, row: EpochRow) -> None:
        """Print a validation in mid-epoch."""
        self._validations += 1
        if self._checks.keeps(self._validations, self._clock()):
            self._checks.kept(self._clock())
            self._display.print(row.parts(), self._mark(run, row.step))

    def _print(self, parts: Sequence[str], mark: str = "") -> None:
        """Print a line that stays."""
        self._line_at, self._unprinted = self._clock(), None
        self._thinning.kept(self._line_at)
        self._display.print(parts, mark)

    def _finish(self, metrics: Mapping[str, float]) -> None:
        self._status = ""
        self._display.stop()
        seconds = duration(self._clock() - self._status_since)
        self._display.print([*pairs(metrics), seconds])

    def _mark(self, run: RunView, step: int) -> str:
        return "best" if run.best is not None and run.best["step"] == step else ""

    def _show(self, run: RunView, urgent: bool = False) -> None:
        self._display.draw(lambda: self._line(run), urgent)

    def _epoch_name(self, run: RunView) -> str:
        if run.config.max_epochs is None:
            return f"epoch {self._epoch}"
        return f"epoch {self._epoch}/{run.config.max_epochs}"

    def _line(self, run: RunView) -> Line:
        """Return the current content of the line."""
        if run.stage != "fit" or self._status == _COMPILING:
            return Line(self._status)
        progress, length = run.progress, run.steps_per_epoch
        # At the end of an epoch, the trainer counts the batches of the next one already.
        done = length if length and progress.epoch >= self._epoch else progress.batch
        left = self._epoch_name(run)
        if run.config.max_epochs is None and run.total_steps is not None:
            left += f"  step {progress.step}/{run.total_steps}"
        if self._status:
            return Line(f"{left}  {self._status}")
        if self._thinning.thins and run.total_steps:  # an epoch is over before it is read
            done, length = progress.step, run.total_steps
        count = f"{done:{len(str(length))}}/{length}" if length else f"{done} steps"
        speed = self._pace.per_second()
        if speed:
            count += f" {speed:.0f} it/s" if speed >= 10 else f" {speed:.2f} it/s"
            if length:
                count += f" {clock_time((length - done) / speed)} left"
        part = done / length if length else None
        return Line(left, part, count, self._values(run, (length or 0) - done))

    def _values(self, run: RunView, left_of_bar: int) -> list[str]:
        """Return the latest metrics, the best value so far, and the time left of the whole run."""
        loss, *others = pairs(in_order(self._train, run.metrics)) or [""]
        values = [loss] if loss else []
        if run.best is not None:
            values += [f"best {each}" for each in pairs({run.best["metric"]: run.best["value"]})]
        steps = (run.total_steps or 0) - run.progress.step
        seconds = self._pace.seconds_for(steps) if steps > left_of_bar else None
        whole = [] if seconds is None else [f"run {clock_time(seconds)} left"]
        return [*values, *others, *whole]


def _planned_epochs(run: RunView) -> int | None:
    """Return how many epochs are left of the run, if that is known."""
    if run.config.max_epochs is not None:
        return run.config.max_epochs - run.progress.epoch
    left = (run.total_steps or 0) - run.progress.step
    return left // run.steps_per_epoch if run.steps_per_epoch else None


def _of_epoch(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return each training metric once, as its mean over the epoch if there is one."""
    chosen: dict[str, float] = {}
    for name, value in metrics.items():
        if name.startswith("train/") and not is_rate(name):
            if name.endswith("_epoch"):
                chosen[name.removesuffix("_epoch")] = value
            else:
                chosen.setdefault(name, value)
    return chosen
