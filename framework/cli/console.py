"""What the command line writes to the terminal."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import textwrap
import traceback

from framework.errors import TrainingFailed, UserError
from framework.text.plain import plain

# Not the tables in them, nor commands, which are to be copied.
_ERROR = re.compile(r"(error: |  where: |  fix:   )(?!.*(python -m|keras-task))")


class ConsoleHandler(logging.Handler):
    """Shows the framework's log on the terminal: plain lines, warnings marked and on stderr.

    It writes to whatever `sys.stdout` is at that moment, so that a progress bar may redirect it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, without its traceback."""
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


def _wrapped(text: str, only: re.Pattern[str] | None = None) -> str:
    """Break long lines between words, where the terminal would within them.

    Args:
        text: What to show.
        only: Leave alone the lines that this does not match, and take its length as the indent.
    """
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
        text = f"error: {error}"
        print(_wrapped(text, _ERROR) if sys.stderr.isatty() else text, file=sys.stderr)
    else:
        text = plain(f"{type(error).__name__}: {error}")
        lines = text.splitlines()
        more = [f"  ... {len(lines) - 12} more lines"] if len(lines) > 12 else []
        print("\n".join(["error: " + "\n".join(lines[:12]), *more]), file=sys.stderr)
