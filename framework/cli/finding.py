"""The modes that find something out about a task without training it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.cli.groups.optimizer_choices import AUTO

if TYPE_CHECKING:
    from framework.run.rate_curve import RateCurve
    from framework.task import Task
    from framework.trainer import Trainer

_log = logging.getLogger("framework")


def lr_find(
    trainer: Trainer,
    task: Task,
    data: Any,
    options: Mapping[str, Any],
    *,
    checkpoint: str | None,
    weights_only: bool,
) -> None:
    """Run a range test and print the learning rate that it suggests, as words to use.

    Args:
        trainer: The trainer; its run directory receives the curve.
        task: The task.
        data: Its data.
        options: See `RangeTest`.
        checkpoint: See `Trainer.fit`.
        weights_only: See `Trainer.fit`.
    """
    curve = trainer.lr_find(task, data, checkpoint=checkpoint, weights_only=weights_only, **options)
    _log.info("%s", "\n".join(_told(curve)))


def summary(trainer: Trainer, task: Task, data: Any) -> None:
    """Print the model's layers, and what a step costs."""
    from framework.run.costs import summarize

    summarize(trainer, task, data)


def auto_rate(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's options for `optimizer.learning_rate=auto`; empty for a number."""
    optimizer = config.get("optimizer")
    auto = isinstance(optimizer, Mapping) and optimizer.get("learning_rate") == AUTO
    return {"auto_lr": dict(config["lr_find"])} if auto else {}


def _told(curve: RateCurve) -> list[str]:
    count = len(curve.rates)
    lines = [f"{count} steps, learning rate from {curve.rates[0]:.1e} to {curve.rates[-1]:.1e}"]
    if curve.suggestion is None:
        lines.append(f"No suggestion: {curve.metric} does not fall clearly at any of these rates.")
        lines.append(f"Test longer: lr_find.steps={3 * count}; or look at the curve.")
        return lines
    of = f" for {curve.optimizer!r}" if len(curve.optimizers) > 1 else ""
    lines.append(f"Suggestion{of}, where {curve.metric} falls most steeply:")
    lines.append(f"  optimizer.learning_rate={curve.suggestion:g}")
    return lines
