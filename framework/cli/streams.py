"""Standard output and error, which a run outlives."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Lasting:
    """A stream whose reader may go, as `head` does once it has seen enough.

    What is then written to it goes nowhere. Characters that it cannot encode become escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                return self._stream.write(
                    text.encode(encoding, "backslashreplace").decode(encoding)
                )
        except OSError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):  # a stream in memory has no file behind it
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Keep a run going whatever becomes of the terminal or the pipe that it writes to."""
    # A file opened later must not take the place of a closed stream, and be written to as such.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    former = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_lasting, former)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = former


def _lasting(stream: TextIO | None) -> TextIO:
    # Python gives None for a stream that was closed when it started.
    wrapped: Any = _Lasting(stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    return wrapped  # type: ignore[no-any-return]
