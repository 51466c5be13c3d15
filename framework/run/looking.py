"""What a run shows of its data and predictions to callbacks that draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from framework.run.fitting import Fitting
    from framework.run.stage_context import Stage


class Looking:
    """Base of `Run`: looks at data and predictions, and changes nothing.

    See `RunView` for the members.

    Attributes:
        active: The current stage, or the last one.
        fitting: The parts of the current or the last `fit`.
    """

    active: Stage | None
    fitting: Fitting | None

    @property
    def class_names(self) -> Sequence[str]:
        return () if self.active is None else self.active.components.class_names

    def first_batch(self) -> Any:
        if self.active is None or self.fitting is None:
            return None
        with self.active.components.undrawn(None):
            batch = self.fitting.loop.source.opening()
        return None if batch is None else tf.nest.map_structure(np.asarray, batch)

    def each_prediction(self, visit: Callable[[str, Any, Any], None]) -> bool:
        evaluator = None if self.active is None else self.active.evaluator
        if self.active is None or evaluator is None:
            return False
        with self.active.components.averaged(), self.active.signals.deferred():
            return evaluator.each_prediction(visit)
