"""Keep a run going when standard output or error is closed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _Lasting:
    """A stream that survives the loss of its reader, such as `head` exiting early.

    After that, output is discarded. Characters that it cannot encode are escaped.
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
        with suppress(OSError):  # an in-memory stream has no file descriptor
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Keep a run going whatever happens to the terminal or pipe that it writes to."""
    # A file opened later must not reuse a closed stream's descriptor and receive its output.
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
def uninterrupted() -> Iterator[None]:
    """Delay a first Ctrl-C: during an import, some library would swallow it."""
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
    # Python sets a stream to None if it was closed at startup.
    wrapped: Any = _Lasting(stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    return wrapped  # type: ignore[no-any-return]
