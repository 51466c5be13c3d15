"""End the process if a call that lets no Python run takes too long."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SHOW = "import sys; sys.stdin.readline() and sys.stderr.write(sys.argv[1])"


@contextmanager
def ended_after(seconds: float, error: Exception) -> Iterator[None]:
    """Show an error and exit with code 1 if the body takes longer.

    A timer that needs no Python ends the process. All it can do before is to write a line, which
    makes another process show the error.

    Example:
        >>> with ended_after(60.0, TrainingFailed("nobody answers")):
        ...     wait_in_a_library()
    """
    command = [sys.executable, "-S", "-c", _SHOW, f"error: {error}\n"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as shown:
        assert shown.stdin is not None
        faulthandler.dump_traceback_later(seconds, exit=True, file=shown.stdin)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
