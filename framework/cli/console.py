"""The terminal output of the command line."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import textwrap
import traceback

from framework.errors import TrainingFailed, UserError
from framework.text.escape import plain

# Never wrap tables or commands: users copy commands.
_ERROR = re.compile(r"(error: |  where: |  fix:   )(?!.*(python -m|keras-task))")

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class ConsoleHandler(logging.Handler):
    """Show the framework's log on the terminal: plain lines; warnings are marked and go to stderr.

    It writes to the current `sys.stdout`, so that a progress bar can redirect it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record without its traceback."""
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


def _wrapped(text: str, only: re.Pattern[str] | None = None) -> str:
    """Break long lines, or `only` those that match, between words; indent by the match."""
    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.splitlines():
        match = only.match(line) if only else None
        if len(line) > width and (match or only is None):
            indent = " " * (match.end() if match else 0)
            line = textwrap.fill(
                line,
                width,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        lines.append(line)
    return "\n".join(lines)


def show_log(verbosity: int | None = None) -> logging.Handler:
    """Send the framework's log to the terminal, once.

    Args:
        verbosity: 0 shows warnings and errors, 1 also messages, 2 also debug messages. None: as
            before, at first 1.
    """
    log = logging.getLogger("framework")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    handler = next((h for h in log.handlers if isinstance(h, ConsoleHandler)), None)
    if handler is None:
        handler = ConsoleHandler(logging.INFO)
        log.addHandler(handler)
    if verbosity is not None:
        handler.setLevel(_LEVELS[verbosity])
    return handler


def show_error(error: BaseException, debug: bool) -> None:
    """Print an error on one screen; include its traceback only if `debug` is set."""
    if debug:
        print(plain("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    elif isinstance(error, (UserError, TrainingFailed)):
        text = f"error: {error}"
        print(_wrapped(text, _ERROR) if sys.stderr.isatty() else text, file=sys.stderr)
    else:
        text = plain(f"{type(error).__name__}: {error}")
        lines = text.splitlines()
        more = [f"  ... {len(lines) - 12} more lines"] if len(lines) > 12 else []
        print("\n".join(["error: " + "\n".join(lines[:12]), *more]), file=sys.stderr)
