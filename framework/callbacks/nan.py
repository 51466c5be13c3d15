"""Stopping when the loss is no longer a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from framework.callbacks.base import Callback
from framework.engine.models import models_of
from framework.errors import TrainingFailed

if TYPE_CHECKING:
    from framework.trainer import Trainer


class StopOnNaN(Callback):
    """Ends the run as failed when a logged training loss is NaN or infinite.

    It looks only at losses that were read for the log anyway, so it costs nothing, and knows the
    step to within `log_every`.
    """

    def __init__(self) -> None:
        self._last_good = 0

    def on_fit_start(self, trainer: Trainer) -> None:
        """Start from the step that the run starts from."""
        self._last_good = trainer.progress.step

    def on_log(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Look at the loss."""
        loss = metrics.get("train/loss")
        step = trainer.progress.step
        if loss is None or math.isfinite(loss) or trainer.recovers_from_overflow:
            self._last_good = step
            return
        first, last = self._last_good + 1, step
        steps = f"step {last}" if first == last else f"steps {first} to {last}"
        raise TrainingFailed(
            f"the training loss became {loss} in {steps} (epoch {trainer.progress.epoch + 1})",
            where=self._bad_weight(trainer),
            fix="Lower the learning rate (optimizer.learning_rate=1e-4), look at the data, or "
            "find the exact step with trainer.log_every=1st.",
        )

    def _bad_weight(self, trainer: Trainer) -> str:
        for model in models_of(trainer.task.model).values():
            for variable in model.variables:
                value = np.asarray(variable.numpy())
                if value.dtype.kind not in "biu" and not np.isfinite(value.astype("f4")).all():
                    return f"the first weight that is not finite is {variable.path}"
        return "all weights are still finite"
