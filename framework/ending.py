"""When a run ends, and why."""

from __future__ import annotations

import signal

from framework.config import TrainerConfig
from framework.engine.every import Every
from framework.progress import Progress

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Ending:
    """The one record of how a run ends; the first reason stands.

    Example:
        >>> ending = Ending(TrainerConfig(max_steps=100))
        >>> ending.reached(Progress(step=100))
        True
        >>> ending.status, ending.reason
        ('completed', 'max_steps=100 reached')

    Args:
        config: Says where the ends are.

    Attributes:
        status: `running`, `completed`, `stopped`, `interrupted` or `failed`.
        reason: Why, as a sentence; empty while running.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config
        self._seconds = Every(config.max_time).seconds if config.max_time else None
        self.status, self.reason = "running", ""

    def reached(self, progress: Progress, received: int | None = None) -> bool:
        """Tell whether the run is at an end, and note which.

        Args:
            progress: How far it has come.
            received: The number of a signal that asked it to end.
        """
        config = self._config
        if received is not None:
            name = _SIGNALS.get(signal.Signals(received), "a signal")
            self.end("interrupted", f"{name} at step {progress.step}")
        elif config.max_steps is not None and progress.step >= config.max_steps:
            self.end("completed", f"max_steps={config.max_steps} reached")
        elif config.max_epochs is not None and progress.epoch >= config.max_epochs:
            self.end("completed", f"max_epochs={config.max_epochs} reached")
        elif self._seconds is not None and progress.seconds >= self._seconds:
            self.end("stopped", f"max_time={config.max_time} is over")
        return bool(self.reason)

    def end(self, status: str, reason: str) -> None:
        """End the run, unless it has ended already."""
        if not self.reason:
            self.status, self.reason = status, reason

    def fail(self, error: BaseException) -> None:
        """End the run by an exception, whatever was noted before."""
        interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
        self.status = "interrupted" if interrupted else "failed"
        self.reason = str(error).split("\n")[0] or type(error).__name__
