"""Which lines of a long run stay on the terminal."""

from __future__ import annotations

import itertools

_MOST = 50
_SECONDS = 10.0


class Thinning:
    """Keep about 50 lines of a run, however many epochs it has.

    Of more epochs every second, fifth, tenth and so on keeps its line; a line is also kept 10
    seconds after the last one.

    Example:
        >>> thinning = Thinning(planned=10_000)
        >>> [epoch for epoch in range(1, 601) if thinning.keeps(epoch)]
        [200, 400, 600]

    Args:
        planned: How many lines there would be. None: unknown; then the later, the fewer.
        now: The time.
    """

    def __init__(self, planned: int | None = None, now: float = 0.0) -> None:
        self._planned, self._kept_at = planned, now

    @property
    def thins(self) -> bool:
        """Whether it is known that not every line is kept."""
        return (self._planned or 0) > _MOST

    def keeps(self, number: int, now: float = 0.0) -> bool:
        """Return whether to keep the line with this number, from 1."""
        step = _round(max(self._planned or 0, number) / _MOST)
        return number % step == 0 or now - self._kept_at >= _SECONDS

    def kept(self, now: float) -> None:
        """Note that a line was kept."""
        self._kept_at = now


def _round(least: float) -> int:
    """Return the first of 1, 2, 5, 10, 20, 50, … that is not below `least`."""
    tens, step = 1, 1
    for digit in itertools.cycle((1, 2, 5)):
        step = digit * tens
        if step >= least:
            break
        tens *= 10 if digit == 5 else 1
    return step
