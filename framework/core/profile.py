"""Measure how the wall time of a run is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from framework.text.tables import table

PARTS = (
    "data", "building", "compiling",
    "steps", "validation", "logging", "saving", "callbacks", "other",
)  # fmt: skip


class Profile:
    """Add up the seconds that each part of a run takes.

    A part that runs inside another, such as a save inside a callback, counts only for itself. Time
    outside all parts is `other`, so the parts add up to the whole. The clock is read a few times
    per span of the loop and never in a step, so profiling is always on.

    Example:
        >>> profile = Profile()
        >>> with profile("callbacks"):
        ...     with profile("saving"):
        ...         save()
        >>> print(profile.table())
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._open = clock, ["other"]
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._since = clock()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the body's time for a part, one of `PARTS`."""
        self._switch()
        self._open.append(part)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def move(self, seconds: float, source: str, target: str) -> None:
        """Move seconds from one part to another, if they turn out to belong there."""
        self._seconds[source] -= seconds
        self._seconds[target] += seconds

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far."""
        self._switch()
        return dict(self._seconds)

    def share(self, part: str) -> float:
        """Return a part's share of the time so far, from 0 to 1."""
        seconds = self.seconds()
        return seconds[part] / max(sum(seconds.values()), 1e-9)

    def table(self) -> str:
        """Return the parts, largest first, with their seconds and shares."""
        seconds = self.seconds()
        total = sum(seconds.values())
        rows = [
            (part, f"{spent:.2f}", f"{100 * spent / max(total, 1e-9):.1f} %")
            for part, spent in sorted(seconds.items(), key=lambda pair: -pair[1])
        ]
        return table(("part", "seconds", "share"), [*rows, ("all", f"{total:.2f}", "100.0 %")])

    def _switch(self) -> None:
        now = self._clock()
        self._seconds[self._open[-1]] += now - self._since
        self._since = now
