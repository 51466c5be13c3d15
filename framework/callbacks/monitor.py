"""The metric that a callback monitors, and which direction is better."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from framework.callback import RunView
from framework.core.direction import by_name, of_metric
from framework.errors import UserError, choice, closest
from framework.options.option import refuse


class Monitor:
    """A metric that a callback monitors.

    Example:
        >>> monitor = Monitor("val/accuracy")
        >>> monitor.mode, monitor.improves(0.9, best=0.8), monitor.improves(float("nan"), 0.8)
        ('max', True, False)

    Args:
        name: Full name of the metric, such as `val/loss`.
        mode: `min`, `max`, or `auto` to infer it from the Keras metric of that name, else from
            the name itself.
        min_delta: Smallest change that counts as an improvement.
        where: The callback's config key, for messages.

    Raises:
        UserError: If the mode is unknown or `min_delta` is negative.
    """

    def __init__(
        self, name: str, mode: str = "auto", *, min_delta: float = 0.0, where: str = "callbacks"
    ) -> None:
        if not isinstance(name, str) or not name:
            refuse("monitor", name, "a metric's full name: val/loss or train/loss", where)
        if mode not in ("auto", "min", "max"):
            fix = choice(str(mode), ("auto", "min", "max"))
            raise UserError(f"mode is {mode!r}", where=f"{where}.mode", fix=fix)
        delta: Any = min_delta
        number = isinstance(delta, numbers.Real) and not isinstance(delta, bool)
        if not (number and 0 <= delta < math.inf):
            refuse("min_delta", delta, "0 or more", where)
        self.name, self.min_delta, self._where = name, min_delta, where
        self._given = None if mode == "auto" else mode
        self._known = self._given or by_name(name)

    @property
    def mode(self) -> str:
        """`min` or `max`.

        Raises:
            UserError: If it was not given and cannot be inferred.
        """
        if self._known is None:
            raise UserError(
                f"cannot tell whether a higher or a lower {self.name} is better",
                where=f"{self._where}.mode",
                fix="Set mode=min or mode=max.",
            )
        return self._known

    def settle(self, run: RunView) -> None:
        """Infer the mode from the Keras metric of this name, if there is one.

        Raises:
            UserError: If the mode was not given and cannot be inferred.
        """
        self._known = self._given or of_metric(run.keras_metric(self.name)) or self._known
        _ = self.mode

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether `value` is better than `best`; NaN never is, anything beats None."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        better = value > best + self.min_delta
        return better if self.mode == "max" else value < best - self.min_delta

    def check(self, run: RunView) -> None:
        """Check that the run will log the metric.

        Raises:
            UserError: If the name starts with `val/` but there is no validation, or no compiled
                step logs it.
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
            raise self._unlogged(names)
        self.settle(run)

    def value(self, run: RunView) -> float | None:
        """Return the metric as measured at this step; None if its total weight was zero.

        Raises:
            UserError: If nothing has logged it.
        """
        logged = self.name in run.metric_names
        if logged and run.measured_at(self.name) != run.progress.step:
            return None
        if self.name not in run.metrics:
            raise self._unlogged(run.metrics)
        return float(run.metrics[self.name])

    def _unlogged(self, names: Iterable[str]) -> UserError:
        return UserError(
            f"nothing logs the monitored metric {self.name!r}",
            where=f"{self._where}.monitor",
            fix=closest(self.name, names),
        )


def why_none(run: RunView) -> tuple[str, str]:
    """Return why there is no validation, and how to fix it."""
    if run.config.val_every is None:
        return "val_every is null: nothing is validated", "Give trainer.val_every=1ep"
    if not run.config.limit_val_batches:
        return "limit_val_batches is 0: nothing is validated", "Allow some batches"
    return "there is no validation data", "Hold some back (data.val_fraction=0.1)"
