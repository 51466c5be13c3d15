"""Plan the wake-ups: how far the compiled loop may run before it needs the host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from framework.every import Every
from framework.loop.span_length import SpanLength


class Trigger:
    """Tells when one listener is due.

    Its methods share their arguments: `step`, the optimizer steps done; `steps_per_epoch`, None
    while that is unknown; `epoch`, as in `Every.next_step`; and `expected`, the estimated length of
    an epoch of unknown length, for fractions of an epoch, whose end is known only when data end.

    Example:
        >>> timer = Trigger(Every("500st"))
        >>> timer.next_step(0, steps_per_epoch=1563), timer.due(500, 1563, epoch_ends=False)
        (500, True)
    """

    def __init__(self, every: Every | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.every, self._clock = every, clock
        self._last = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the listener was last due, or since the start."""
        return self._clock() - self._last

    @elapsed.setter
    def elapsed(self, seconds: float) -> None:
        self._last = self._clock() - seconds

    def next_step(
        self,
        step: int,
        steps_per_epoch: int | None,
        epoch: tuple[int, int] | None = None,
        expected: int | None = None,
    ) -> int | None:
        """Return the next step at which the host is needed, or None if it cannot be predicted."""
        if self.every is None:
            return None
        if not self._guesses(steps_per_epoch, expected):
            return self.every.next_step(step, steps_per_epoch, epoch)
        found, end = self.every.next_step(step, expected, epoch), (epoch or (0, 0))[1]
        return found if found is not None and found < end + (expected or 0) else None

    def _guesses(self, steps_per_epoch: int | None, expected: int | None) -> bool:
        parts = self.every is not None and self.every.count.denominator != 1
        return parts and steps_per_epoch is None and expected is not None

    def due(
        self,
        step: int,
        steps_per_epoch: int | None,
        *,
        epoch_ends: bool,
        epochs: int = 0,
        epoch: tuple[int, int] | None = None,
        expected: int | None = None,
    ) -> bool:
        """Whether the listener is due at `step`; a time interval then starts again.

        Whole epochs of unknown length count by `epoch_ends` (`step` is the last of one) and
        `epochs`, the number finished.
        """
        if self.every is None:
            return False
        seconds = self.every.seconds
        if seconds is not None:
            if self.elapsed < seconds:
                return False
            self._last = self._clock()
            return True
        whole = self.every.count.denominator == 1
        if self.every.unit == "ep" and steps_per_epoch is None and whole:
            return epoch_ends and epochs % int(self.every.count) == 0
        return self.next_step(step - 1, steps_per_epoch, epoch, expected) == step


class Triggers:
    """The triggers of all listeners, by name.

    Example:
        >>> timers = Triggers({"log": Every("50st"), "val": Every("10min")}, time.monotonic)
        >>> list(timers.state())
        ['val']
    """

    def __init__(
        self, every: Mapping[str, Every | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._triggers: dict[str, Trigger] = {}
        self.listen(every)

    def listen(self, every: Mapping[str, Every | None]) -> None:
        """Replace the listeners; their clocks start now."""
        self._triggers = {name: Trigger(each, self._clock) for name, each in every.items()}

    def __getitem__(self, name: str) -> Trigger:
        return self._triggers[name]

    def all(self) -> list[Trigger]:
        """Return all triggers."""
        return list(self._triggers.values())

    def state(self) -> dict[str, float]:
        """Return the elapsed time of the time intervals; the others depend only on the step."""
        triggers = self._triggers.items()
        return {k: t.elapsed for k, t in triggers if t.every and t.every.seconds is not None}

    def load_state(self, state: Mapping[str, float]) -> None:
        """Restore what `state` returned; triggers that it does not contain start again."""
        for name, timer in self._triggers.items():
            if name in state:
                timer.elapsed = state[name]


class WakeupPlan:
    """Finds the nearest step at which any listener needs the host.

    By the speed measured so far, a span is limited to about a second, and to the shortest time
    interval that a listener asked for.

    Example:
        >>> schedule = WakeupPlan([Trigger(Every("50st")), Trigger(Every("1ep"))])
        >>> schedule.measured(steps=10, seconds=0.01)
        >>> schedule.next_stop(step=20, end=1563, steps_per_epoch=1563)
        50
    """

    def __init__(self, triggers: Sequence[Trigger], *, every_batch: bool = False) -> None:
        times = [t.every.seconds for t in triggers if t.every and t.every.seconds is not None]
        self._triggers, self._every_batch = triggers, every_batch
        self._span = SpanLength(*times)

    def next_stop(
        self,
        step: int,
        end: int | None,
        steps_per_epoch: int | None,
        epoch: tuple[int, int] | None = None,
        expected: int | None = None,
    ) -> int:
        """Return the step to run to: above `step`, and at most the `end` of the epoch or run."""
        longest = 1 if self._every_batch else self._span.steps
        stops = [
            timer.next_step(step, steps_per_epoch, epoch, expected) for timer in self._triggers
        ]
        return min(s for s in [*stops, end, step + longest] if s is not None)

    def measured(self, steps: int, seconds: float) -> None:
        """Learn from a span how many steps fit into the next one."""
        self._span.measured(steps, seconds)
