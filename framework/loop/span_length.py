"""How many steps the compiled loop runs for one call from the host."""

from __future__ import annotations

LONGEST = 1.0  # seconds, so that signals and Ctrl-C are answered at once
GROWTH = 8  # a span is at most so many times as long as the one before


class SpanLength:
    """Finds how many steps fit into about a second, from the speed measured so far.

    Example:
        >>> span = SpanLength()
        >>> span.measured(steps=1, seconds=0.001)
        >>> span.steps
        8

    Args:
        *seconds: Intervals that a span is not to be longer than, either.

    Attributes:
        steps: The most steps of the next span.
    """

    def __init__(self, *seconds: float) -> None:
        self._budget = min([LONGEST, *seconds])
        self.steps = 1

    def measured(self, steps: int, seconds: float) -> None:
        """Learn from a span.

        Args:
            steps: How many steps it had.
            seconds: How long it took.
        """
        fitting = int(steps * self._budget / max(seconds, 1e-6))
        self.steps = max(1, min(fitting, max(steps, self.steps) * GROWTH))
