"""Which way a metric is better."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

from framework.callbacks.direction import by_name, of_metric
from framework.errors import UserError, choice, closest

if TYPE_CHECKING:
    from framework.callback import RunView


class Monitor:
    """A metric that a callback judges by.

    Example:
        >>> monitor = Monitor("val/accuracy")
        >>> monitor.mode, monitor.improves(0.9, best=0.8), monitor.improves(float("nan"), 0.8)
        ('max', True, False)

    Args:
        name: The metric's full name: `val/loss`.
        mode: `min`, `max`, or `auto`: as a Keras metric of that name says, else by its name where
            that leaves no doubt.
        min_delta: How much better counts as better.
        where: The callback's place in the configuration, for messages.

    Raises:
        UserError: An unknown mode, or a negative `min_delta`.
    """

    def __init__(
        self, name: str, mode: str = "auto", *, min_delta: float = 0.0, where: str = "callbacks"
    ) -> None:
        if not isinstance(name, str) or not name:
            raise UserError(
                f"monitor is {name!r}",
                where=f"{where}.monitor",
                fix="Give a metric's full name: val/loss or train/loss.",
            )
        if mode not in ("auto", "min", "max"):
            raise UserError(
                f"mode is {mode!r}",
                where=f"{where}.mode",
                fix=choice(str(mode), ("auto", "min", "max")),
            )
        delta: Any = min_delta
        number = isinstance(delta, numbers.Real) and not isinstance(delta, bool)
        if not (number and 0 <= delta < math.inf):
            raise UserError(
                f"min_delta is {delta!r}", where=f"{where}.min_delta", fix="Give 0 or more."
            )
        self.name, self.min_delta, self._where = name, min_delta, where
        self._given = None if mode == "auto" else mode
        self._known = self._given or by_name(name)

    @property
    def mode(self) -> str:
        """`min` or `max`.

        Raises:
            UserError: It was not given, and cannot be told.
        """
        if self._known is None:
            raise UserError(
                f"whether a higher or a lower {self.name} is better cannot be told",
                where=f"{self._where}.mode",
                fix="Say so: mode=min or mode=max.",
            )
        return self._known

    def settle(self, run: RunView) -> None:
        """Ask the Keras metric that is logged by this name, if there is one, which is better.

        Raises:
            UserError: The mode was not given, and cannot be told.
        """
        self._known = self._given or of_metric(run.keras_metric(self.name)) or self._known
        _ = self.mode

    def improves(self, value: float, best: float | None) -> bool:
        """Tell whether `value` is better than `best`; NaN never is, anything beats None."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        return (
            value > best + self.min_delta if self.mode == "max" else value < best - self.min_delta
        )

    def check(self, run: RunView) -> None:
        """Refuse a metric that nothing is going to log.

        Raises:
            UserError: The name starts with `val/` and nothing is validated, or no compiled step
                logs it.
        """
        if self.name.startswith("val/") and not run.has_validation:
            why, fix = why_none(run)
            raise UserError(
                f"{self.name} is monitored, but {why}",
                where=f"{self._where}.monitor",
                fix=f"{fix}, or monitor train/loss.",
            )
        names = run.metric_names
        if names and self.name not in names:
            raise UserError(
                f"nothing logs the monitored metric {self.name!r}",
                where=f"{self._where}.monitor",
                fix=closest(self.name, names),
            )
        self.settle(run)

    def value(self, run: RunView) -> float | None:
        """Return the metric as it was measured at this step; None if it had no weight in it.

        Raises:
            UserError: Nobody has logged it.
        """
        logged = self.name in run.metric_names
        if logged and run.measured_at(self.name) != run.progress.step:
            return None
        if self.name not in run.metrics:
            raise UserError(
                f"nothing logs the monitored metric {self.name!r}",
                where=f"{self._where}.monitor",
                fix=closest(self.name, run.metrics),
            )
        return float(run.metrics[self.name])


def why_none(run: RunView) -> tuple[str, str]:
    """Return why nothing is validated, and what to do about it."""
    if run.config.val_every is None:
        return "val_every is null: nothing is validated", "Give trainer.val_every=1ep"
    if not run.config.limit_val_batches:
        return "limit_val_batches is 0: nothing is validated", "Allow some batches"
    return "there is no validation data", "Hold some back (data.val_fraction=0.1)"
