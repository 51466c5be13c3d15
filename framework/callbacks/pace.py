"""How fast a run is, and how long it still takes."""

from __future__ import annotations

from collections import deque

_WINDOW = 10.0


class Pace:
    """Steps per second over the last few seconds, and of the whole run.

    Example:
        >>> pace = Pace()
        >>> pace.begin(0.0, 0)
        >>> pace.add(2.0, 100)
        >>> pace.per_second(), pace.seconds_for(50)
        (50.0, 1.0)
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=256)
        self._began = (0.0, 0)
        self._now = (0.0, 0)

    def begin(self, now: float, step: int) -> None:
        """Start with a run."""
        self._began = self._now = (now, step)
        self._marks.clear()

    def add(self, now: float, step: int) -> None:
        """Note at which step the run is."""
        self._now = (now, step)
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()

    def clear(self) -> None:
        """Forget the last few seconds: a pause would count as slow training."""
        self._marks.clear()

    def per_second(self) -> float | None:
        """Return the steps per second now, or None if they are not known yet."""
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        (since, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - since) or None

    def seconds_for(self, steps: int) -> float | None:
        """Return how long so many steps take at the pace of the whole run, with its pauses."""
        (since, first), (now, last) = self._began, self._now
        return steps * (now - since) / (last - first) if last > first and now > since else None
