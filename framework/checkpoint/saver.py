"""Saving in the background: training waits only for the copy of the state."""

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
    """Writes checkpoints one after another, in a thread of its own unless somebody waits.

    At most one is being written: the next one waits for it, so that a slow disk holds training up
    instead of filling the memory. One that fails is reported at once; what was saved before stays,
    and the run goes on.

    Example:
        >>> saver = Saver(CheckpointStore(Path("runs/a/checkpoints")))
        >>> saver.save(100, state, Retention(), wait=False)
        >>> saver.wait()

    Args:
        store: Where to.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._thread: threading.Thread | None = None
        self._failed: Callable[[], None] | None = None

    def save(
        self, step: int, state: State, retention: Retention | None, *, wait: bool, **about: Any
    ) -> Path:
        """Save a state that nobody changes any more, then delete what need not be kept.

        Args:
            step: Optimizer steps done.
            state: What to save.
            retention: What to keep. None: everything.
            wait: Return when it is on the disk.
            **about: See `CheckpointStore.save`.

        Returns:
            The checkpoint's directory, which is there only later if nobody waits.

        Raises:
            OSError: It cannot be written, and somebody waits.
            UserError: The run directory is gone.
        """
        self.wait()
        self.store.check_directory()
        self._failed = None
        write = partial(self._save, step, state, retention, **about)
        if wait:
            write()
        else:
            # Not a daemon: an interpreter that ends waits for it.
            target = partial(self._report, step, write)
            self._thread = threading.Thread(target=target, name="checkpoint")
            self._thread.start()
        return self.store.path(step)

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self) -> None:
        """Return when the latest state is on the disk; tries once more if that has failed.

        Raises:
            OSError: It cannot be written.
        """
        self.wait()
        if self._failed is not None:
            self._failed()
            self._failed = None

    def _save(self, step: int, state: State, retention: Retention | None, **about: Any) -> None:
        self.store.save(step, state, **about)
        if retention is not None:
            self.store.tidy(retention, step)

    def _report(self, step: int, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            self._failed = write
            steps = self.store.steps()
            _log.error(
                "the checkpoint of step %s could not be saved: %s; the run goes on, %s",
                f"{step:,}",
                getattr(error, "strerror", None) or error,
                f"the last whole one is of step {steps[-1]:,}" if steps else "there is none",
            )
