"""When a run ends, and why."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.every import Every

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):
    _SIGNALS[signal.SIGHUP] = "SIGHUP (the terminal was closed)"


class StopCondition:
    """The one record of how a run ends; the first reason stands.

    `max_time` is counted through kills and resumes. Once it is over and the run was stopped by it,
    the same command gives the run as much again.

    Example:
        >>> ending = StopCondition(TrainerConfig(max_steps=100))
        >>> ending.reached(Progress(step=100))
        True
        >>> ending.status, ending.reason
        ('completed', 'max_steps=100 reached')

    Args:
        config: Says where the ends are.

    Attributes:
        status: `running`, `completed`, `stopped`, `interrupted` or `failed`.
        reason: Why, as a sentence; empty while running.
        broken: An exception ended it: what is in memory is not to be saved.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._seconds = Every(config.max_time).seconds if config.max_time else None
        self.status, self.reason, self.broken = "running", "", False
        self._time_began: float | None = None  # in seconds of training

    def reached(
        self, progress: Progress, received: int | None = None, *, epochs: int | None = None
    ) -> bool:
        """Tell whether the run is at an end, and note which.

        Args:
            progress: How far it has come.
            received: The number of a signal that asked it to end.
            epochs: Epochs that are done. Default: as `progress` has them.
        """
        done = progress.epoch if epochs is None else epochs
        config = self._config
        if self._seconds is not None and self._time_began is None:
            self._time_began = progress.seconds
        over = self._seconds is not None and (
            progress.seconds - (self._time_began or 0.0) >= self._seconds
        )
        if received is not None:
            name = _SIGNALS.get(signal.Signals(received), "a signal")
            self.end("interrupted", f"{name} at step {progress.step}")
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
        """Return when the present `max_time` began; None: there is none."""
        return {"time_began": self._time_began}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._time_began = state["time_began"]

    def end(self, status: str, reason: str) -> None:
        """End the run, unless it has ended already."""
        if not self.reason:
            self.status, self.reason = status, reason

    def fail(self, error: BaseException) -> None:
        """End the run by an exception, whatever was noted before."""
        self.broken = True
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        self.status = "interrupted" if interrupted else "failed"
        self.reason = str(error).split("\n")[0] or type(error).__name__
