"""What is said about an epoch, or about a validation within one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from framework.text.escape import one_line
from framework.text.readable import duration, number


@dataclass(frozen=True)
class EpochRow:
    """The results of an epoch, or of a validation within one.

    Example:
        >>> EpochRow("epoch 1/5", 100, {"train/loss": 2.5}, {"val/loss": 2.4}, seconds=5.0).parts()
        ['epoch 1/5', 'loss 2.5000', 'val loss 2.4000', '5.0 s']

    Attributes:
        name: Which epoch, and of how many.
        step: The step at its end.
        train: The training metrics by full name, in order.
        val: The metrics of a validation at this step, in the same order.
        note: A remark, such as how many steps it had.
        seconds: Its wall time.
        speed: Training examples per second, not counting the time in validation.
    """

    name: str
    step: int
    train: Mapping[str, float] = field(default_factory=dict)
    val: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    seconds: float | None = None
    speed: float | None = None

    def parts(self) -> list[str]:
        """Return it as the parts of one line."""
        parts = [self.name, self.note] if self.note else [self.name]
        return [*parts, *pairs(self.train), *pairs(self.val), *self.pace()]

    def pace(self) -> list[str]:
        """Return the wall time and the speed, as far as they are known."""
        seconds = [] if self.seconds is None else [duration(self.seconds)]
        return [*seconds, *([] if self.speed is None else [f"{self.speed:,.0f} examples/s"])]


def pairs(metrics: Mapping[str, float]) -> list[str]:
    """Return `val loss 2.6143` for `val/loss`, `loss 2.9950` for `train/loss`.

    Example:
        >>> pairs({"train/loss": 2.995, "val/loss": 2.6143})
        ['loss 2.9950', 'val loss 2.6143']
    """
    return [
        f"{name.removeprefix('train/').replace('/', ' ', 1)} {number(value)}"
        if name.startswith(("train/", "val/", "test/"))
        else f"{name} {number(value)}"
        for name, value in ((one_line(name), value) for name, value in metrics.items())
    ]
