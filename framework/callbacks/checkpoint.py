"""Checkpoints at the end of each epoch, of the run, and of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.callbacks.base import Callback
from framework.callbacks.monitor import Monitor

if TYPE_CHECKING:
    from framework.trainer import Trainer


class Checkpoint(Callback):
    """Keeps two checkpoints: the last, and that of the epoch with the best metric.

    Saved at the end of each epoch, after its validation, and when the run ends, is stopped or
    interrupted. `best` is judged by `monitor` as it was measured at that very step.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[Checkpoint("val/accuracy")])

    Args:
        monitor: A metric's full name. Default: `val/loss` where it is logged, else the first of
            the validation's metrics, else `train/loss`.
        mode: `min`, `max`, or `auto`: `max` for accuracies and the like, else `min`.
    """

    def __init__(self, monitor: str | None = None, mode: str = "auto") -> None:
        if monitor is not None:
            Monitor(monitor, mode, where="callbacks.checkpoint")  # refuses what is none
        self.monitor, self._mode = monitor, mode
        self._best: dict[str, Any] = {}
        self._saved_at: int | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        """Choose what to judge by."""
        name = self.monitor or _first_choice(trainer)
        self._monitor = Monitor(name, self._mode, where="callbacks.checkpoint")
        if self.monitor:
            self._monitor.check(trainer)
        trainer.best = dict(self._best) or None

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Save, and mark the checkpoint as the best if it is."""
        step = trainer.progress.step
        value = trainer.metrics.get(self._monitor.name, math.nan)
        best = self._best.get("value")
        if self._monitor.improves(value, best):
            self._best = {"step": step, "metric": self._monitor.name, "value": value}
        self._save(trainer)
        if self._best.get("step") == step and trainer.checkpoints is not None:
            trainer.checkpoints.mark_best(**self._best)
        trainer.best = dict(self._best) or None
        self._tidy(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Save where the run ended, unless it failed: the last good checkpoint stays."""
        if trainer.status != "failed" and self._saved_at != trainer.progress.step:
            self._save(trainer)
            self._tidy(trainer)

    def state(self) -> dict[str, Any]:
        """Return the best so far."""
        return {"best": self._best}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back the best so far."""
        self._best = dict(state["best"])

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint()
        self._saved_at = trainer.progress.step

    def _tidy(self, trainer: Trainer) -> None:
        if trainer.checkpoints is not None:
            kept = {trainer.progress.step, self._best.get("step", trainer.progress.step)}
            trainer.checkpoints.keep(kept)


def _first_choice(trainer: Trainer) -> str:
    if not trainer.has_validation:
        return "train/loss"
    default = "val/loss"
    names = sorted(trainer.metric_names)
    evaluated = [name for name in names if name.startswith("val/")]
    return default if default in names or not evaluated else evaluated[0]
