"""Standard output and error, which a run outlives."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
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


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep TensorFlow's C++ chatter of the first import off the screen; show it on failure."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        try:
            saved = os.dup(2)
        except OSError:
            yield
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(saved, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back a first Ctrl-C: in the midst of an import, some library would swallow it."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    former = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if received:
        raise KeyboardInterrupt


def _lasting(stream: TextIO | None) -> TextIO:
    # Python gives None for a stream that was closed when it started.
    wrapped: Any = _Lasting(stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    return wrapped  # type: ignore[no-any-return]
