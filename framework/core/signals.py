"""Handle Ctrl-C, SIGTERM, a closed terminal and a job's time limit at the end of a span."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from framework.core.requeue import requeue

# What SLURM is usually asked to send before a job's time is over; submitit uses the second. Neither
# is available on Windows.
_LIMIT_IS_NEAR = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


def ending_signals(*, near_limit: bool = True) -> list[signal.Signals]:
    """Return the signals that ask a run to end, except those that nohup and the like ignore.

    `near_limit=False` leaves out SIGUSR1 and SIGUSR2.
    """
    others = [getattr(signal, "SIGHUP", None)]  # terminal closed; not available on Windows
    others += _LIMIT_IS_NEAR if near_limit else []
    heeded = [each for each in others if each and signal.getsignal(each) != signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *heeded]


def leave(number: int, frame: FrameType | None = None) -> NoReturn:
    """End the program as the signal would: with KeyboardInterrupt, or with exit code 143.

    SIGUSR1 and SIGUSR2 also make SLURM queue the job again. It is a signal handler itself.
    """
    if number in _LIMIT_IS_NEAR:
        requeue()
    _unwind(number)


def queue_again(code: int) -> None:
    """Have SLURM queue the job again, if this exit code is that of SIGUSR1 or SIGUSR2.

    If somebody else handles the signal, such as submitit, that handler is called instead.
    """
    if code - 128 not in _LIMIT_IS_NEAR:
        return
    handler = signal.getsignal(code - 128)
    if callable(handler) and handler is not leave:
        handler(code - 128, None)
    else:
        requeue()


@contextmanager
def put_off() -> Iterator[None]:
    """Leave it to the caller to queue the job again: after a job of a sweep there is more to do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in ending_signals() if number in _LIMIT_IS_NEAR]
    former = {number: signal.signal(number, _unwind) for number in heeded}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _unwind(number: int, frame: FrameType | None = None) -> NoReturn:
    if number == signal.SIGINT:
        raise _interrupt() from None
    raise SystemExit(128 + number) from None


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
        self._noting = self._deferred = self._raised = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Catch the signals that end a run in the body, and restore the former handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) for number in ending_signals()}
        self.received, self._raised, self._noting = None, False, True
        try:
            for number in former:
                signal.signal(number, self._note)
            yield
        except BaseException:
            if not self._raised:
                raise
        finally:
            self._noting = False
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
        """End the program as a received signal would, if there is one; see `queue_again`.

        `elsewhere` is a signal that another worker received.
        """
        received = self.received or elsewhere
        if received is None:
            return
        if self._noting:  # `noted` calls this again, when the former handlers are back
            self._raised = True
        else:
            queue_again(128 + received)
        _unwind(received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = number
        if again or not self._deferred:
            self.raise_received()


def _interrupt() -> KeyboardInterrupt:
    """Return a KeyboardInterrupt that a notebook shows in one line: it was asked for."""
    error = KeyboardInterrupt()
    vars(error)["_render_traceback_"] = lambda: ["KeyboardInterrupt"]
    return error
