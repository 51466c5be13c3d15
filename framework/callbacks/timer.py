"""Logs how long epochs and validations take, and stops a run when its time is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from framework.callback import Callback
from framework.errors import UserError, choice
from framework.every import Every

if TYPE_CHECKING:
    from framework.callback import RunView
    from framework.core.profile import Profile

_WHERE = "callbacks.timer"
_POINTS = ("step", "epoch")


class Timer(Callback):
    """Log the seconds of each epoch and validation and the time left, and stop when it is over.

    It logs `time/epoch` and `time/validation`, the seconds of the last one, and `time/left`, until
    `duration` is over or, without one, until the planned end at the present speed.

    `duration` counts all of a run: it includes the time before kills and resumes, and a run that
    has used it up stops at once when it is started again, until it is given more.
    `trainer.max_time` counts differently: the same command gets that much time again.

    Example:
        >>> Timer("12h").at
        'epoch'

    Args:
        duration: How long the run may train in total: `90s`, `30min`, `12h`. None: no limit.
        at: Where it stops: at the end of the `epoch` in which the time runs out, which is then
            validated as always, or at the next `step` where the host is awake, at most about a
            second late.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(self, duration: str | None = None, at: str = "epoch") -> None:
        if at not in _POINTS:
            raise UserError(f"at is {at!r}", where=f"{_WHERE}.at", fix=choice(at, _POINTS))
        self.duration, self.at = duration, at
        self._seconds = None if duration is None else Every(str(duration)).seconds
        if duration is not None and self._seconds is None:
            raise UserError(
                f"duration is {duration!r}",
                where=f"{_WHERE}.duration",
                fix="Give a time: 90s, 30min or 12h.",
            )
        # Wakes the host soon enough to stop there.
        self.every = Every("1s") if duration is not None and at == "step" else None
        self._profile: Profile | None = None
        self._before = self._epoch_began = self._validation_began = 0.0

    def on_fit_start(self, run: RunView) -> None:
        """Stop at once if the time was over before."""
        self._profile = run.profile
        self._stop_if_over(run)

    def on_epoch_start(self, run: RunView) -> None:
        """Remember when the epoch began."""
        if run.progress.batch == 0:
            self._before = 0.0
        self._epoch_began = self._now()

    def on_validation_start(self, run: RunView) -> None:
        """Remember when the validation began."""
        self._validation_began = self._now()

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Log the seconds of the validation."""
        if run.stage == "fit":
            run.log_metrics({"time/validation": self._now() - self._validation_began})

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Log the time left."""
        left = self._left(run)
        if left is not None:
            run.log_metrics({"time/left": max(left, 0.0)})

    def on_wake(self, run: RunView) -> None:
        """Stop if the time is over."""
        self._stop_if_over(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Log the seconds of the epoch, and stop if the time is over."""
        if run.progress.batch == 0:
            run.log_metrics({"time/epoch": self._in_epoch()})
            self._stop_if_over(run)

    def on_fit_end(self, run: RunView) -> None:
        """Keep what the epoch has taken, for a checkpoint that is saved later."""
        self._before, self._epoch_began, self._profile = self._in_epoch(), 0.0, None

    def state(self) -> dict[str, float]:
        """Return the seconds that the running epoch has taken."""
        return {"in_epoch": self._in_epoch()}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Restore what `state` returned."""
        self._before = float(state["in_epoch"])
        self._epoch_began = self._now()

    def _now(self) -> float:
        return sum(self._profile.seconds().values()) if self._profile is not None else 0.0

    def _in_epoch(self) -> float:
        return self._before + self._now() - self._epoch_began

    def _left(self, run: RunView) -> float | None:
        progress, total = run.progress, run.total_steps
        if self._seconds is not None:
            return self._seconds - progress.seconds
        if total is None or not progress.step:
            return None
        return progress.seconds / progress.step * (total - progress.step)

    def _stop_if_over(self, run: RunView) -> None:
        if self._seconds is not None and run.progress.seconds >= self._seconds:
            run.stop(f"timer: {self.duration} are over")
