"""Ctrl-C and SIGTERM, answered at the end of a stretch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Signals:
    """Notes that the process was asked to end, and lets the loop end it in good order.

    A second Ctrl-C ends it at once. Outside the main thread, where Python allows no handlers, it
    notes nothing.

    Example:
        >>> signals = Signals()
        >>> with signals.noted():
        ...     while signals.received is None and training:
        ...         run_a_stretch()

    Attributes:
        received: The signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM in the body, and put the former handlers back."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.received = None
        try:
            for number in former:
                signal.signal(number, self._note)
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def raise_received(self, elsewhere: int | None = None) -> None:
        """End the program as the signal would have: KeyboardInterrupt, or exit code 143.

        Args:
            elsewhere: A signal that another worker has received.
        """
        received = self.received or elsewhere
        if received == signal.SIGINT:
            raise KeyboardInterrupt
        if received is not None:
            raise SystemExit(128 + received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
