"""Decides how many steps the compiled loop runs per call from the host."""

from __future__ import annotations

LONGEST = 1.0  # seconds, so that the run reacts to signals and Ctrl-C at once
GROWTH = 8  # a span has at most this many times the steps of the previous one


class SpanLength:
    """Compute how many steps fit into about a second, or a lower limit, from the measured speed.

    Example:
        >>> span = SpanLength()
        >>> span.measured(steps=1, seconds=0.001)
        >>> span.steps
        8
    """

    def __init__(self, *seconds: float) -> None:
        self._budget = min([LONGEST, *seconds])
        self.steps = 1

    def measured(self, steps: int, seconds: float) -> None:
        """Update the estimate after a span."""
        fitting = int(steps * self._budget / max(seconds, 1e-6))
        self.steps = max(1, min(fitting, max(steps, self.steps) * GROWTH))
