"""Decide when a run ends, and record why."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.every import Every

_SIGNALS = {
    "SIGINT": "Ctrl-C",
    "SIGHUP": "SIGHUP (the terminal was closed)",
    "SIGUSR1": "SIGUSR1 (the job's time is nearly over)",
    "SIGUSR2": "SIGUSR2 (the job's time is nearly over)",
}


class StopCondition:
    """The one record of how a run ends; the first reason is kept.

    `max_time` includes the time before kills and resumes. Once it has stopped the run, the same
    command gives the run that much time again.

    Example:
        >>> ending = StopCondition(TrainerConfig(max_steps=100))
        >>> ending.reached(Progress(step=100))
        True
        >>> ending.status, ending.reason
        ('completed', 'max_steps=100 reached')

    Attributes:
        status: `running`, `completed`, `stopped`, `pruned`, `interrupted` or `failed`.
        reason: The reason, as a sentence; empty while running.
        broken: Whether an exception ended it, so that the state in memory must not be saved.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._seconds = Every(config.max_time).seconds if config.max_time else None
        self.status, self.reason, self.broken = "running", "", False
        self._time_began: float | None = None  # in seconds of training

    def reached(
        self, progress: Progress, received: int | None = None, *, epochs: int | None = None
    ) -> bool:
        """Whether the run has reached an end, or received a signal; records which one.

        `epochs` are those finished. Default: those of `progress`.
        """
        done = progress.epoch if epochs is None else epochs
        config = self._config
        if self._seconds is not None and self._time_began is None:
            self._time_began = progress.seconds
        over = self._seconds is not None and (
            progress.seconds - (self._time_began or 0.0) >= self._seconds
        )
        if received is not None:
            name = signal.Signals(received).name
            self.end("interrupted", f"{_SIGNALS.get(name, name)} at step {progress.step}")
        elif config.max_steps is not None and progress.step >= config.max_steps:
            self.end("completed", f"max_steps={config.max_steps} reached")
        elif config.max_epochs is not None and done >= config.max_epochs:
            self.end("completed", f"max_epochs={config.max_epochs} reached")
        elif over:
            if not self.reason:
                self._time_began = progress.seconds
            self.end("stopped", f"max_time={config.max_time} is over")
        return bool(self.reason)

    def state(self) -> dict[str, Any]:
        """Return when the current `max_time` period started. None: there is none."""
        return {"time_began": self._time_began}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._time_began = state["time_began"]

    def end(self, status: str, reason: str) -> None:
        """End the run, unless it has ended already."""
        if not self.reason:
            self.status, self.reason = status, reason

    def fail(self, error: BaseException) -> None:
        """Record that an exception ended the run, overriding any earlier reason."""
        self.broken = True
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        self.status = "interrupted" if interrupted else "failed"
        self.reason = str(error).split("\n")[0] or type(error).__name__
