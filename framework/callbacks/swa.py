"""Stochastic weight averaging."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import keras

from framework.callback import RunView
from framework.callbacks.ema import WeightAverage
from framework.core.fractions import exact
from framework.core.statuses import ENDED
from framework.errors import UserError
from framework.options.option import refuse
from framework.step.averaging import Average

_log = logging.getLogger("framework")


class SWA(WeightAverage):
    """Average the weights of the last epochs, and evaluate the model with the average.

    Stochastic weight averaging (Izmailov et al., 2018) takes the plain mean of the weights at the
    end of each epoch from `start` on. The mean lies in a flatter region of the loss than any of
    the weights. It helps most if the learning rate stays high in those epochs. From the end of
    epoch `start`, validation, test and prediction use the mean instead of the weights. Training
    does not use it, and checkpoints have both.

    Example:
        >>> Trainer(max_epochs=20, callbacks=[SWA(start=0.75)]).fit(task, data)  # epochs 15 to 19

    Args:
        start: First epoch to average: its number, counted from 0, or a fraction of `max_epochs`
            below 1. Default: 0.75, the last quarter. Give a number if you may resume the run with
            more epochs, since these would move a fraction.
        batch_stats: Average batch-norm statistics too. False: use those of the last weights.

    Attributes:
        average: The average, after a run has started: `average.copies` for `average.sources`.

    Raises:
        UserError: If `start` is out of range; in `fit`, if it is a fraction and there is no
            `max_epochs`.
    """

    def __init__(self, start: int | float = 0.75, batch_stats: bool = True) -> None:
        super().__init__(batch_stats)
        whole = isinstance(start, int) and not isinstance(start, bool)
        if not (whole or isinstance(start, float)) or not (start >= 0 and (whole or start < 1)):
            wanted = "an epoch's number (10), or a fraction of max_epochs below 1 (0.75)"
            refuse("start", start, wanted, "callbacks.swa")
        self.start = start
        self._first = 0
        self._last_step = 0

    def on_setup(self, run: RunView) -> None:
        """Create the average, and compute the first epoch."""
        super().on_setup(run)
        if run.stage != "fit":
            return
        self._first = self._first_epoch(run.config.max_epochs)
        epochs = run.config.max_epochs
        if epochs is not None and self._first >= epochs and not run.config.fast_dev_run:
            _log.warning("SWA starts at epoch %d, but max_epochs is %d.", self._first, epochs)

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Add the weights to the average at the end of an epoch, before validation."""
        # Not in `on_epoch_end`: a checkpoint must have the average that was validated.
        progress = run.progress
        if progress.batch or progress.epoch <= self._first or self.average is None:
            return
        # After a signal during validation, the resumed run logs the end of the epoch again.
        if progress.step > self._last_step:
            self.average.add()
            self._last_step = progress.step

    def on_fit_end(self, run: RunView) -> None:
        """Warn if the run ended before the average started."""
        epochs = run.config.max_epochs
        warned = epochs is not None and self._first >= epochs
        ended = run.status in ENDED and not run.config.fast_dev_run
        if ended and not warned and self.average is not None and not self.average.ready:
            _log.warning(
                "SWA has averaged no weights: it starts at epoch %d, and the run ended in epoch "
                "%d. Evaluation uses the last weights as they are.",
                self._first,
                run.progress.current_epoch,
            )

    def state(self) -> dict[str, Any]:
        """Return the step of the last averaged weights; the trainer saves the average itself."""
        return {"last_step": self._last_step}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._last_step = int(state["last_step"])

    def _begin(self, weights: list[keras.Variable], statistics: list[keras.Variable]) -> Average:
        sources = [*weights, *statistics] if self.batch_stats else weights
        return Average(sources, decay=None, evaluate=True)

    def _first_epoch(self, max_epochs: int | None) -> int:
        if isinstance(self.start, int):
            return self.start
        if max_epochs is None:
            raise UserError(
                f"start is {self.start}, a fraction of max_epochs, which is not given",
                where="callbacks.swa.start",
                fix="Give trainer.max_epochs, or the number of an epoch as start.",
            )
        return min(math.ceil(exact(self.start) * max_epochs), max_epochs - 1)  # the last counts
