"""What the command line writes to the terminal."""

from __future__ import annotations

import logging
import sys
import traceback

from framework.errors import TrainingFailed, UserError
from framework.text import plain


class ConsoleHandler(logging.Handler):
    """Shows the framework's log on the terminal: plain lines, warnings marked and on stderr.

    It writes to whatever `sys.stdout` is at that moment, so that a progress bar may redirect it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, without its traceback."""
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


def show_log() -> logging.Handler:
    """Send the framework's log to the terminal, once, whoever called this before."""
    log = logging.getLogger("framework")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    for handler in log.handlers:
        if isinstance(handler, ConsoleHandler):
            return handler
    handler = ConsoleHandler(logging.INFO)
    log.addHandler(handler)
    return handler


def show_error(error: BaseException, debug: bool) -> None:
    """Print an error on one screen, with its traceback only if `debug`."""
    if debug:
        print(plain("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    elif isinstance(error, (UserError, TrainingFailed)):
        print(f"error: {error}", file=sys.stderr)
    else:
        text = plain(f"{type(error).__name__}: {error}")
        lines = text.splitlines()
        more = [f"  ... {len(lines) - 12} more lines"] if len(lines) > 12 else []
        print("\n".join(["error: " + "\n".join(lines[:12]), *more]), file=sys.stderr)
