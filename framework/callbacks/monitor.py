"""Which way a metric is better."""

from __future__ import annotations

import math
import numbers
import re
from typing import TYPE_CHECKING, Any

from framework.errors import UserError, choice, closest

if TYPE_CHECKING:
    from framework.trainer import Trainer

_HIGHER = {"accuracy", "acc", "auc", "precision", "recall", "specificity", "sensitivity", "iou"}
_HIGHER |= {"f1", "fbeta", "score", "dice", "bleu", "r2", "psnr", "ssim", "map"}


class Monitor:
    """A metric that a callback judges by.

    Example:
        >>> monitor = Monitor("val/accuracy")
        >>> monitor.mode, monitor.improves(0.9, best=0.8), monitor.improves(float("nan"), 0.8)
        ('max', True, False)

    Args:
        name: The metric's full name: `val/loss`.
        mode: `min`, `max`, or `auto`: `max` for names such as accuracy, AUC, recall or top5.
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
        self.mode = ("max" if _higher_is_better(name) else "min") if mode == "auto" else mode

    def improves(self, value: float, best: float | None) -> bool:
        """Tell whether `value` is better than `best`; NaN never is, anything beats None."""
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        return (
            value > best + self.min_delta if self.mode == "max" else value < best - self.min_delta
        )

    def check(self, trainer: Trainer) -> None:
        """Refuse a metric that nothing is going to log.

        Raises:
            UserError: The name starts with `val/` and nothing is validated, or no compiled step
                logs it.
        """
        if self.name.startswith("val/") and not trainer.has_validation:
            why, fix = why_none(trainer)
            raise UserError(
                f"{self.name} is monitored, but {why}",
                where=f"{self._where}.monitor",
                fix=f"{fix}, or monitor train/loss.",
            )
        names = trainer.metric_names
        if names and self.name not in names:
            raise UserError(
                f"nothing logs the monitored metric {self.name!r}",
                where=f"{self._where}.monitor",
                fix=closest(self.name, names),
            )

    def value(self, trainer: Trainer) -> float:
        """Return the metric's latest value; NaN while it has had no weight.

        Raises:
            UserError: Nobody has logged it.
        """
        if self.name not in trainer.metrics and self.name in trainer.metric_names:
            return math.nan
        if self.name not in trainer.metrics:
            raise UserError(
                f"nothing logs the monitored metric {self.name!r}",
                where=f"{self._where}.monitor",
                fix=closest(self.name, trainer.metrics),
            )
        return float(trainer.metrics[self.name])


def why_none(trainer: Trainer) -> tuple[str, str]:
    """Return why nothing is validated, and what to do about it."""
    if trainer.config.val_every is None:
        return "val_every is null: nothing is validated", "Give trainer.val_every=1ep"
    if not trainer.config.limit_val_batches:
        return "limit_val_batches is 0: nothing is validated", "Allow some batches"
    return "there is no validation data", "Hold some back (data.val_fraction=0.1)"


def _higher_is_better(name: str) -> bool:
    # val/auc_1 -> auc, val/mean_io_u -> iou, train/accuracy_epoch -> accuracy, val/top5 -> top
    last = name.rsplit("/", 1)[-1].lower().replace("io_u", "iou")
    words = [word for word in re.split(r"[^a-z0-9]+", last) if not word.isdigit()]
    words = [word for word in words if word != "epoch"] or [last]
    return words[-1] in _HIGHER or words[0].startswith("top")
