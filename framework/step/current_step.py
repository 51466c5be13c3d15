"""The state of a step while it runs on one device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from framework.step.metric_sums import Accumulator


@dataclass
class Running:
    """A running step on one device.

    Attributes:
        means: The accumulator of its values.
        rows: Number of its examples.
        share: Its share of the whole step's examples. None: all.
        global_step: Optimizer steps done before it.
        training: Whether it may change weights permanently.
        place: Distinguishes its random numbers from others: training or evaluation, and the first
            row of a piece or the index of a batch.
        applied: Whether it has changed weights.
        snapshots: Number of open snapshots.
        logged: Values logged so far, with their weights.
    """

    means: Accumulator
    rows: Any
    share: Any
    global_step: Any
    training: bool
    place: tuple[int, Any] = (0, 0)
    applied: bool = False
    snapshots: int = 0
    logged: dict[str, tuple[tf.Tensor, tf.Tensor]] = field(default_factory=dict)

    @property
    def is_piece(self) -> bool:
        """Whether it has only a piece of its device's rows, as with `trainer.accumulate`."""
        first = self.place[1]
        return self.training and not (isinstance(first, int) and first == 0)

    def note(self, name: str, value: tf.Tensor, weight: tf.Tensor) -> None:
        """Record a value; several values of one name become their weighted mean."""
        if name in self.logged:
            former, so_far = self.logged[name]
            total = so_far + weight
            parts = tf.math.multiply_no_nan(former, so_far) + tf.math.multiply_no_nan(value, weight)
            value = tf.math.divide_no_nan(parts, total)
            weight = total
        self.logged[name] = value, weight
