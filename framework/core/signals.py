"""Ctrl-C, SIGTERM and a closed terminal, answered at the end of a stretch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a run to end: not SIGHUP where nohup has it ignored."""
    found = [signal.SIGINT, signal.SIGTERM]
    closed = getattr(signal, "SIGHUP", None)  # of a terminal; there is none on Windows
    if closed is not None and signal.getsignal(closed) != signal.SIG_IGN:
        found.append(closed)
    return found


class Signals:
    """Notes that the process was asked to end, and lets the loop end it in good order.

    While nothing is at work yet, and at a second Ctrl-C, the process is ended at once. A handler
    only notes the signal, or raises: nothing is saved in it. Outside the main thread, where
    Python allows no handlers, nothing is noted.

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
        """Catch SIGINT, SIGTERM and SIGHUP in the body, and put the former handlers back."""
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
            # Anew: a library that was met in its midst may have made another error of it, and its
            # frames tell nobody anything.
            self.raise_received()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Leave it to the body to look at `received`, and to end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_received(self, elsewhere: int | None = None) -> None:
        """End the program as the signal would have: KeyboardInterrupt, or exit code 143.

        Args:
            elsewhere: A signal that another worker has received.
        """
        received = self.received or elsewhere
        if received == signal.SIGINT:
            raise KeyboardInterrupt from None
        if received is not None:
            raise SystemExit(128 + received) from None

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = number
        if again or not self._deferred:
            self._raised = True
            self.raise_received()
