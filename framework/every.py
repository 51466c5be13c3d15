"""`Every`: how options and callbacks say when they need the host."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from framework.errors import UserError

_SECONDS = {"s": 1, "min": 60, "h": 3600}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(st|ep|s|min|h)")


@dataclass(frozen=True)
class Every:
    """A recurring interval: a number of steps, epochs, or seconds.

    The trainer runs the compiled loop exactly up to the nearest requested moment and not past it.
    An interval in steps or epochs is therefore met at the exact step. An interval in time is met at
    the end of the current span of the loop, at most about a second late.

    Example:
        >>> Every("500st").next_step(1200, steps_per_epoch=1563)
        1500
        >>> Every("0.5ep").next_step(0, steps_per_epoch=100)
        50
        >>> Every("10min").seconds
        600.0

    Args:
        text: A number and a unit: `st` (optimizer steps), `ep` (epochs), `s`, `min` or `h`.

    Raises:
        UserError: The text is not an interval, or the number is not above 0 (whole, for steps).
    """

    text: str

    def __post_init__(self) -> None:
        count, unit = _parse(self.text)
        if count <= 0 or (unit == "st" and count.denominator != 1):
            kind = "a whole number of steps" if unit == "st" else "a number"
            raise UserError(f"{self.text!r} is not an interval", fix=f"Give {kind} above 0.")

    @property
    def count(self) -> Fraction:
        """The number before the unit, as an exact fraction."""
        return _parse(self.text)[0]

    @property
    def unit(self) -> str:
        """The unit: one of `st`, `ep`, `s`, `min`, `h`."""
        return _parse(self.text)[1]

    @property
    def seconds(self) -> float | None:
        """The interval in seconds, or None for an interval in steps or epochs."""
        scale = _SECONDS.get(self.unit)
        return None if scale is None else float(self.count * scale)

    def next_step(
        self, step: int, steps_per_epoch: int | None, epoch: tuple[int, int] | None = None
    ) -> int | None:
        """Return the first step after `step` at which this interval is due.

        Args:
            step: Optimizer steps done so far.
            steps_per_epoch: Steps in the current epoch, or None while that is unknown.
            epoch: The number of the current epoch, from 0, and its first step, if epochs differ in
                length. Default: all epochs are equally long.

        Returns:
            A step number above `step`, or None if it cannot be predicted: for intervals in time,
            and for whole epochs of unknown length, which are due when the epoch ends.

        Raises:
            UserError: The interval is a fraction of an epoch of unknown length.
        """
        if self.seconds is not None:
            return None
        if self.unit == "st":
            count = int(self.count)
            return (step // count + 1) * count
        if steps_per_epoch is None:
            if self.count.denominator != 1:
                raise UserError(
                    f"{self.text!r} needs the length of an epoch, which this data does not provide",
                    fix="Give steps instead (500st), or data with a known length.",
                )
            return None
        number, start = epoch or (
            step // steps_per_epoch,
            step // steps_per_epoch * steps_per_epoch,
        )
        # The k-th moment is the first whole step at or past k * count epochs.
        passed = number + Fraction(step - start, steps_per_epoch)
        k = math.floor(passed / self.count) + 1
        while (found := start + math.ceil((k * self.count - number) * steps_per_epoch)) <= step:
            k += 1
        return found


@lru_cache(maxsize=256)  # called at every wake-up
def _parse(text: str) -> tuple[Fraction, str]:
    match = _TEXT.fullmatch(str(text).strip())
    if not match:
        raise UserError(
            f"{text!r} is not an interval",
            fix="Give a number and a unit: 500st (steps), 1ep (epochs), 30s, 10min or 2h.",
        )
    return Fraction(match[1]), match[2]
