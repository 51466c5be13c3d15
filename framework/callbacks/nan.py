"""Stops a run when the loss becomes NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from framework.callback import Callback, RunView
from framework.core.models_by_name import models_of
from framework.errors import TrainingFailed


class StopOnNaN(Callback):
    """End the run as failed when a logged training loss is NaN or infinite.

    It checks only losses that are read for the log anyway. The device counts the steps since the
    loss was finite, so the message names the exact step; if a step accumulates several batches, it
    is accurate to `log_every`. A loss is any training value with `loss` in its name. If a task
    logs none, the weights are checked once per epoch. Under `mixed_float16`, the loss scale
    handles a loss that is not finite, until it cannot go lower or a weight is not finite.
    """

    def __init__(self) -> None:
        self._last_good = 0

    def on_fit_start(self, run: RunView) -> None:
        """Remember the step that the run starts from."""
        self._last_good = run.progress.step

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Check the losses."""
        step = run.progress.step
        losses = {k: v for k, v in metrics.items() if _is_loss(k)}
        bad = {name: value for name, value in losses.items() if not math.isfinite(value)}
        # If a step logs no loss, check the weights once per epoch instead.
        epoch_over = any(name.endswith("_epoch") for name in metrics)
        weight = self._bad_weight(run) if bad or (epoch_over and not losses) else None
        if not (bad or weight) or (weight is None and run.recovers_from_overflow):
            self._last_good = step
            return
        name, value = next(iter(bad.items()), ("a weight", math.nan))
        steps = self._steps(run, name, from_then_on=weight is not None)
        what = "the training loss" if name == "train/loss" else name
        xla = run.engine in ("step_xla", "loop_xla")
        label = "\nUnder XLA, a label without an output in the model also gives NaN." if xla else ""
        raise TrainingFailed(
            f"{what} became {value} {steps} (epoch {run.progress.current_epoch})",
            where=f"the first weight that is not finite is {weight}"
            if weight
            else "all weights are still finite",
            fix="Lower the learning rate (optimizer.learning_rate=1e-4), check the data, or find "
            "the operation: run the same command with trainer.detect_anomaly=true." + label,
        )

    def _steps(self, run: RunView, name: str, *, from_then_on: bool) -> str:
        """Say when it happened; once a weight is not finite, the loss stays that way."""
        first, last = self._last_good + 1, run.progress.step
        count = run.steps_not_finite(name)
        if count and (from_then_on or count == 1 + last - first):
            first = last = 1 + last - count
        if first == last:
            return f"at step {last}"
        few = f"{count} of " if count else ""
        return f"in {few}steps {first} to {last}"

    def _bad_weight(self, run: RunView) -> str | None:
        for model in models_of(run.task.model).values():
            for variable in model.variables:
                value = np.asarray(variable.numpy())
                if value.dtype.kind not in "biu" and not np.isfinite(value.astype("f4")).all():
                    return str(variable.path)
        return None


def _is_loss(name: str) -> bool:
    stage, _, rest = name.partition("/")
    return stage == "train" and "loss" in rest and rest != "loss_scale"
