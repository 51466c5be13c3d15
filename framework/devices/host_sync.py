"""Synchronizes the clock and the signals of all workers."""

from __future__ import annotations

import time

from framework.core.signals import Signals
from framework.devices.replicas import Replicas


class HostSync:
    """Provide the time and received signals between two spans, the same for all workers.

    Every worker of a run has its own clock and signals. At every beat they agree on the latest
    time, the longest span, and any signal that one of them has received.
    """

    def __init__(self, signals: Signals, replicas: Replicas) -> None:
        self._signals, self._replicas = signals, replicas
        self._began = time.monotonic()
        self._agreed: tuple[float, int] | None = None
        if replicas.workers > 1:
            self.beat(0.0)

    def beat(self, seconds: float) -> float:
        """Synchronize at the end of a span; return how long it took in the slowest process."""
        if self._replicas.workers == 1:
            return seconds
        elapsed = time.monotonic() - self._began
        signal = float(self._signals.received or 0)
        seconds, signal, elapsed = self._replicas.agree([seconds, signal, elapsed])
        self._agreed = elapsed, int(signal)
        return seconds

    def nearest(self, stop: int) -> int:
        """Return the earliest next stop of all workers, in case their listeners differ."""
        if self._replicas.workers == 1:
            return stop
        return -int(self._replicas.agree([-stop])[0])

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic() if self._agreed is None else self._agreed[0]

    @property
    def received(self) -> int | None:
        """The signal that asked the run to end, or None."""
        return self._signals.received if self._agreed is None else self._agreed[1] or None

    def interrupted(self) -> bool:
        """Return whether a signal asked the run to end."""
        return self.received is not None
