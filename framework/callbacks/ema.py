"""An exponential moving average of the weights."""

from __future__ import annotations

import logging

import keras

from framework.callback import Callback, RunView
from framework.options.option import refuse
from framework.step.averaging import Average, weights_and_statistics

_MOSTLY_INITIAL = 0.5  # the share of initial weights in the average above which to warn
_log = logging.getLogger("framework")


class WeightAverage(Callback):
    """Base of `EMA` and `SWA`: one average of all weights, kept between stages.

    Args:
        batch_stats: Average batch-norm statistics too.

    Attributes:
        average: The average, after a run has started. It is kept after `fit`, so `test` by the
            same trainer evaluates it.
    """

    def __init__(self, batch_stats: bool) -> None:
        self.batch_stats = batch_stats
        self.average: Average | None = None
        self._variables: list[keras.Variable] = []

    def on_setup(self, run: RunView) -> None:
        """Start the average as a copy of the weights, or keep the one of the last `fit`."""
        weights, statistics = weights_and_statistics(run.task)
        variables = [*weights, *statistics]
        kept = list(map(id, variables)) == list(map(id, self._variables))
        if self.average is None or run.stage == "fit" or not kept:
            self.average = self._begin(weights, statistics)
            self._variables = variables
        run.add_average(type(self).__name__, self.average)

    def _begin(self, weights: list[keras.Variable], statistics: list[keras.Variable]) -> Average:
        raise NotImplementedError


class EMA(WeightAverage):
    """Keep an exponential moving average of the weights, and evaluate the model with it.

    After every update, the average becomes `decay * average + (1 - decay) * weights` (Polyak and
    Juditsky, 1992). It covers about the last `1 / (1 - decay)` updates, and is often better than
    any single set of weights late in training. It starts as a copy of the initial weights, so
    short runs need a smaller decay. It costs no host time. Training does not use it, and
    checkpoints have both.

    If a task optimizes manually, every call of `minimize` counts as an update, for any weights.

    Example:
        >>> Trainer(max_epochs=20, callbacks=[EMA(0.999)]).fit(task, data)

    Args:
        decay: Share of the average that an update keeps, at least 0 and below 1.
        batch_stats: Average batch-norm statistics too. False: use the current ones.
        evaluate: Validate, test and predict with the average instead of the weights.

    Attributes:
        average: The average, after a run has started: `average.copies` for `average.sources`.

    Raises:
        UserError: If the decay is out of range.
    """

    def __init__(
        self, decay: float = 0.999, batch_stats: bool = True, evaluate: bool = True
    ) -> None:
        super().__init__(batch_stats)
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            refuse("decay", decay, "a number from 0 to below 1, such as 0.999", "callbacks.ema")
        self.decay, self.evaluate = float(decay), evaluate
        self._warned = False

    def on_setup(self, run: RunView) -> None:
        """Start the average as a copy of the weights, or keep the one of the last `fit`."""
        super().on_setup(run)
        self._warned = False

    def on_validation_start(self, run: RunView) -> None:
        """Warn if the average still consists mostly of the initial weights."""
        left = self.decay**run.progress.step
        if self.evaluate and left > _MOSTLY_INITIAL and not self._warned:
            self._warned = True
            _log.warning(
                "EMA: after %d steps the average is still %.0f %% initial weights, and %s uses "
                "it. Give a smaller callbacks.ema.decay (%s), or evaluate=false.",
                run.progress.step,
                100 * left,
                run.stage if run.stage != "fit" else "validation",
                f"now {self.decay:g}",
            )

    def on_test_start(self, run: RunView) -> None:
        """See `on_validation_start`."""
        self.on_validation_start(run)

    def on_predict_start(self, run: RunView) -> None:
        """See `on_validation_start`."""
        self.on_validation_start(run)

    def _begin(self, weights: list[keras.Variable], statistics: list[keras.Variable]) -> Average:
        return Average(
            [*weights, *statistics],
            decay=self.decay,
            followed=[] if self.batch_stats else statistics,
            evaluate=self.evaluate,
        )
