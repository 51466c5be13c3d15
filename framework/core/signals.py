"""Handle Ctrl-C, SIGTERM and a closed terminal at the end of a span."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from framework.core.requeue import announces_end


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a run to end; without SIGHUP if nohup ignores it.

    In a job of a scheduler, also those by which it announces that the job's time is over.
    """
    found = [signal.SIGINT, signal.SIGTERM, *announces_end()]
    closed = getattr(signal, "SIGHUP", None)  # terminal closed; not available on Windows
    if closed is not None and signal.getsignal(closed) != signal.SIG_IGN:
        found.append(closed)
    return found


class Signals:
    """Record that the process was asked to end, and let the loop end cleanly.

    While nothing runs yet, and at a second Ctrl-C, the process ends at once. A handler only records
    the signal or raises; it saves nothing. Outside the main thread, where Python allows no signal
    handlers, no signal is recorded.

    Example:
        >>> signals = Signals()
        >>> with signals.noted():
        ...     prepare()
        ...     with signals.deferred():
        ...         while signals.received is None and training:
        ...             run_a_stretch()

    Attributes:
        received: The signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred = self._raised = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Catch SIGINT, SIGTERM and SIGHUP in the body, and restore the former handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) for number in ending_signals()}
        self.received, self._raised = None, False
        try:
            for number in former:
                signal.signal(number, self._note)
            yield
        except BaseException:
            if not self._raised:
                raise
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
        if self._raised:
            # Raise a new error: a library that was interrupted may have replaced the first one, and
            # its stack frames are of no use to the user.
            self.raise_received()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Leave it to the body to check `received` and to end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_received(self, elsewhere: int | None = None) -> None:
        """End the program as the signal would: with KeyboardInterrupt, or with exit code 143.

        `elsewhere` is a signal that another worker received.
        """
        received = self.received or elsewhere
        if received == signal.SIGINT:
            raise _interrupt() from None
        if received is not None:
            raise SystemExit(128 + received) from None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = number
        if again or not self._deferred:
            self._raised = True
            self.raise_received()


def _interrupt() -> KeyboardInterrupt:
    """Return a KeyboardInterrupt that a notebook shows in one line: it was asked for."""
    error = KeyboardInterrupt()
    vars(error)["_render_traceback_"] = lambda: ["KeyboardInterrupt"]
    return error
