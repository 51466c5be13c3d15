"""The host's clock and its signals, the same for every worker."""

from __future__ import annotations

import time

from framework.core.signals import Signals
from framework.devices.replicas import Replicas


class HostSync:
    """What the host decides by between two stretches: the time, and whether to end.

    Where several workers share a run, each has a clock and signals of its own; at every beat they
    agree on the latest time, the longest stretch, and any signal that one of them has received.

    Example:
        >>> pulse = HostSync(Signals(), replicas)
        >>> pulse.beat(0.98)
        0.98

    Args:
        signals: What this process receives.
        replicas: The devices of the run.
    """

    def __init__(self, signals: Signals, replicas: Replicas) -> None:
        self._signals, self._replicas = signals, replicas
        self._began = time.monotonic()
        self._agreed: tuple[float, int] | None = None
        if replicas.workers > 1:
            self.beat(0.0)

    def beat(self, seconds: float) -> float:
        """Note the end of a stretch.

        Args:
            seconds: How long it took here.

        Returns:
            How long it took where it took longest.
        """
        if self._replicas.workers == 1:
            return seconds
        elapsed = time.monotonic() - self._began
        signal = float(self._signals.received or 0)
        seconds, signal, elapsed = self._replicas.agree([seconds, signal, elapsed])
        self._agreed = elapsed, int(signal)
        return seconds

    def nearest(self, stop: int) -> int:
        """Return the nearest of every worker's next stops: where listeners differ, all wait."""
        if self._replicas.workers == 1:
            return stop
        return -int(self._replicas.agree([-stop])[0])

    def now(self) -> float:
        """Return seconds that only rise."""
        return time.monotonic() if self._agreed is None else self._agreed[0]

    @property
    def received(self) -> int | None:
        """The signal that asked the run to end, or None."""
        return self._signals.received if self._agreed is None else self._agreed[1] or None

    def interrupted(self) -> bool:
        """Tell whether a signal asked the run to end."""
        return self.received is not None
