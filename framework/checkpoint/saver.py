"""Saves checkpoints in the background: training waits only for the copy of the state."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from framework.checkpoint.retention import Retention
from framework.checkpoint.store import CheckpointStore
from framework.core.state import State

_log = logging.getLogger("framework")


class Saver:
    """Write checkpoints one after another, in a thread unless the caller waits.

    Only one checkpoint is written at a time. The next one waits for it, so a slow disk delays
    training instead of filling the memory. A failed save is logged at once; earlier checkpoints
    stay, and the run continues.

    Example:
        >>> saver = Saver(CheckpointStore(Path("runs/a/checkpoints")))
        >>> saver.save(100, state, Retention(), wait=False)
        >>> saver.wait()

    Attributes:
        durable: The step of the last checkpoint that it wrote; None if there is none yet.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._thread: threading.Thread | None = None
        self._failed: Callable[[], None] | None = None
        self.durable: int | None = None

    def save(
        self, step: int, state: State, retention: Retention | None, *, wait: bool, **about: Any
    ) -> Path:
        """Save a state that nothing may change afterwards, then delete checkpoints no longer kept.

        See `RunView.save_checkpoint`; without `wait`, the path that is returned may not exist yet.
        """
        self.wait()
        self.store.check_directory()
        self._failed = None
        write = partial(self._save, step, state, retention, **about)
        if wait:
            write()
        else:
            # Not a daemon, so that the interpreter waits for it at exit.
            target = partial(self._report, step, write)
            self._thread = threading.Thread(target=target, name="checkpoint")
            self._thread.start()
        return self.store.path(step)

    def wait(self) -> None:
        """Wait until no checkpoint is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Wait until the latest state is on the disk; retry once if saving it has failed."""
        self.wait()
        if self._failed is not None:
            self._failed()
            self._failed = None

    def _save(self, step: int, state: State, retention: Retention | None, **about: Any) -> None:
        self.store.save(step, state, **about)
        self.durable = step
        if retention is not None:
            self.store.tidy(retention, step)

    def _report(self, step: int, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            self._failed = write
            steps = self.store.steps()
            _log.error(
                "the checkpoint of step %s could not be saved: %s; the run continues; %s",
                f"{step:,}",
                getattr(error, "strerror", None) or error,
                f"the last checkpoint is of step {steps[-1]:,}" if steps else "it has none yet",
            )
