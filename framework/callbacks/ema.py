"""An exponential moving average of the weights."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import keras

from framework.callback import Callback
from framework.compat import layers_within, made_untrainable
from framework.core.models import models_of
from framework.errors import UserError
from framework.step.averaging import Average

if TYPE_CHECKING:
    from framework.callback import RunView
    from framework.task import Task


_MUCH = 0.5  # a larger part of the first weights is worth a warning
_log = logging.getLogger("framework")


class WeightAverage(Callback):
    """What `EMA` and `SWA` share: one average of all weights, kept from stage to stage.

    Args:
        batch_stats: Average batch-norm statistics too.

    Attributes:
        average: The average, once a run has begun. It outlives `fit`, so that a `test` by the
            same trainer judges what training has made of it.
    """

    def __init__(self, batch_stats: bool) -> None:
        self.batch_stats = batch_stats
        self.average: Average | None = None
        self._variables: list[keras.Variable] = []

    def on_setup(self, run: RunView) -> None:
        """Begin the average as a copy of the weights, unless it goes on from the last `fit`."""
        weights, statistics = _weights_and_statistics(run.task)
        variables = [*weights, *statistics]
        kept = len(variables) == len(self._variables) and all(
            a is b for a, b in zip(variables, self._variables, strict=True)
        )
        if self.average is None or run.stage == "fit" or not kept:
            self.average = self._begin(weights, statistics)
            self._variables = variables
        run.add_average(type(self).__name__, self.average)

    def _begin(self, weights: list[keras.Variable], statistics: list[keras.Variable]) -> Average:
        raise NotImplementedError


class EMA(WeightAverage):
    """Keep an exponential moving average of the weights, and judge the model by it.

    After every update the average keeps `decay` of itself and takes the rest from the new weights
    (Polyak and Juditsky, 1992): it forgets in about `1 / (1 - decay)` updates, and is often better
    than any single set of weights late in training. It begins as a copy of the first weights, so
    short runs want a smaller decay. It costs no host time. Training itself never sees it, and
    checkpoints hold both.

    Where a task optimises by hand, every call of `minimize` counts as an update, whichever weights
    it is for.

    Example:
        >>> Trainer(max_epochs=20, callbacks=[EMA(0.999)]).fit(task, data)

    Args:
        decay: What the average keeps of itself at an update, from 0 to below 1. Default: 0.999.
        batch_stats: Average batch-norm statistics too. False: take them as they are.
        evaluate: Validate, test and predict with the average in the place of the weights.

    Attributes:
        average: The average, once a run has begun: `average.copies` for `average.sources`.

    Raises:
        UserError: The decay is out of range.
    """

    def __init__(
        self, decay: float = 0.999, batch_stats: bool = True, evaluate: bool = True
    ) -> None:
        super().__init__(batch_stats)
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise UserError(
                f"decay is {decay!r}",
                where="callbacks.ema.decay",
                fix="Give a number from 0 to below 1, such as 0.999.",
            )
        self.decay, self.evaluate = float(decay), evaluate
        self._warned = False

    def on_setup(self, run: RunView) -> None:
        """Begin the average as a copy of the weights, unless it goes on from the last `fit`."""
        super().on_setup(run)
        self._warned = False

    def on_validation_start(self, run: RunView) -> None:
        """Warn if what is about to be judged is little more than the weights it began with."""
        left = self.decay**run.progress.step
        if self.evaluate and left > _MUCH and not self._warned:
            self._warned = True
            _log.warning(
                "EMA: after %d steps the average is still %.0f %% the weights it started from; "
                "%s judges that. Give a smaller callbacks.ema.decay (%s), or evaluate=false.",
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


def _weights_and_statistics(task: Task) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Return all weights of a task, frozen or not, and its models' floating-point statistics."""
    models = models_of(task.model).values()
    # By how a layer made them, not by `trainable`: whether a layer is frozen at the moment must
    # change neither what is averaged nor the order, in which a checkpoint holds the averages.
    made_so = {
        id(v) for model in models for layer in layers_within(model) for v in made_untrainable(layer)
    }
    found = {id(v): v for model in models for v in model.variables if "float" in str(v.dtype)}
    own = [v for v in task.runtime.variables.values() if v.trainable]
    weights = [v for key, v in found.items() if key not in made_so]
    return [*weights, *own], [v for key, v in found.items() if key in made_so]
