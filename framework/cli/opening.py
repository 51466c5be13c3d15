"""The first line of a run, before TensorFlow is loaded."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.cli.closed_stdio import uninterrupted
from framework.core.quiet_import import quiet_import

_log = logging.getLogger("framework")
_WAIT = "starting TensorFlow ..."


@contextmanager
def starting(task: str, mode: str, run_dir: Path | None) -> Iterator[None]:
    """Say at once what runs and where, and import TensorFlow quietly in the body.

    On a terminal, what it waits for is erased afterwards.
    """
    from framework.callbacks.live_line import Display, Line, Screen

    words = [task, *([mode] if mode != "fit" else []), *([str(run_dir)] if run_dir else [])]
    display = Display(Screen(highlight=False), None, time.monotonic)
    loaded = "tensorflow" in sys.modules
    if not loaded and not display.live:
        words.append(_WAIT)
    _log.info("%s", "  ".join(words))
    if not loaded and _log.isEnabledFor(logging.INFO) and display.live:
        display.draw(lambda: Line(_WAIT), urgent=True)
    try:
        with quiet_import(), uninterrupted():
            yield
    finally:
        display.stop()
