"""Learning-rate schedules that know the length of a run."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from framework.compat import learning_rate_of
from framework.errors import UserError, choice
from framework.options.option import refuse

_WHERE = "schedule"
_BY = ("step", "epoch")

_log = logging.getLogger("framework")


@keras.saving.register_keras_serializable(package="framework")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Raise the rate linearly from 0 to `peak`, then lower it to `end` along half a cosine.

    With N steps in total and W warm-up steps, update number t, from 0, has the rate `peak * t / W`
    before W, and `end + (peak - end) * (1 + cos(pi * (t - W) / (N - W))) / 2` from there on
    (Loshchilov and Hutter, 2017); after N the rate stays at `end`. Each optimizer counts its own
    updates. The rate is computed in the graph, so it never wakes the host.

    `by="epoch"` keeps the rate constant within each epoch: the cosine's value at the epoch's first
    step, and the warm-up's at its last, because an epoch at rate 0 would be wasted.

    A `Trainer` sets the length of the run. Without a trainer, give `total`.

    Example:
        >>> schedule = WarmupCosine(0.1, warmup=10, total=110)
        >>> [round(float(schedule(t)), 3) for t in (0, 5, 10, 60, 110)]
        [0.0, 0.05, 0.1, 0.05, 0.0]

    Args:
        peak: The highest rate, above 0.
        warmup: Warm-up steps: a number, or a fraction of all steps, below 1. Default: 0.05. 0: no
            warm-up.
        end: The rate at the end, from 0 to `peak`.
        by: `step`; or `epoch` to keep the rate constant within an epoch. All epochs are assumed to
            be as long as the first.
        total: Total number of steps. Default: the steps that the trainer plans. Set it if the run
            may later be extended by more epochs, which would change the rest of the curve.

    Raises:
        UserError: An argument is out of range.
    """

    def __init__(
        self,
        peak: float,
        warmup: int | float = 0.05,
        end: float = 0.0,
        by: str = "step",
        total: int | None = None,
    ) -> None:
        if not _is_number(peak) or not 0 < peak < math.inf:
            refuse("peak", peak, "a number above 0", _WHERE)
        if not _is_number(warmup) or warmup < 0 or (isinstance(warmup, float) and warmup >= 1):
            wanted = "a number of steps (100), or a fraction below 1 (0.05)"
            refuse("warmup", warmup, wanted, _WHERE)
        if not _is_number(end) or not 0 <= end <= peak:
            refuse("end", end, f"a number from 0 to the peak, {peak}", _WHERE)
        if by not in _BY:
            raise UserError(f"by is {by!r}", where=f"{_WHERE}.by", fix=choice(str(by), _BY))
        if total is not None and (not _is_number(total) or total != int(total) or total < 1):
            wanted = "a number of steps, or null for the length of the run"
            refuse("total", total, wanted, _WHERE)
        self.peak, self.warmup, self.end, self.by, self.total = peak, warmup, end, by, total
        self._steps: int | None = total
        self._steps_per_epoch: int | None = None

    def bind(self, total_steps: int | None, steps_per_epoch: int | None) -> None:
        """Set the length of the run. Call it before a step is traced.

        Args:
            total_steps: Planned optimizer steps in total, or None if unknown. If `total` is given,
                it takes precedence.
            steps_per_epoch: Steps in an epoch, or None if unknown.

        Raises:
            UserError: The schedule needs a length that is unknown.
        """
        self._steps = self.total or total_steps
        self._steps_per_epoch = steps_per_epoch
        if self._steps is None:
            raise UserError(
                "the schedule needs the total number of steps, which is unknown",
                where=f"{_WHERE}.total",
                fix="Set schedule.total=10000; or an end: trainer.max_steps, or trainer.max_epochs "
                "and data of known length. A task with manual optimization has to set "
                "schedule.total, in updates of the optimizer.",
            )
        if self.by == "epoch" and steps_per_epoch is None:
            raise UserError(
                "the schedule counts epochs, but their length is unknown",
                where=f"{_WHERE}.by",
                fix='Give by="step", or data of known length.',
            )
        warm = self._warmup_steps(self._steps)
        if warm >= self._steps:
            _log.warning("the warm-up of %d steps fills the run of %d steps", warm, self._steps)

    def __call__(self, step: Any) -> Any:
        """Return the rate for update number `step`, a scalar of Keras's default float type."""
        total, per_epoch = self._length()
        warm = self._warmup_steps(total)
        # In double precision: single precision cannot distinguish steps above 2**24.
        at = ops.cast(step, "float64")
        rising = at
        if per_epoch is not None:
            at = ops.floor(at / per_epoch) * per_epoch
            rising = at + per_epoch
        done = ops.clip((at - warm) / max(total - warm, 1), 0.0, 1.0)
        rate = self.end + (self.peak - self.end) * 0.5 * (1.0 + ops.cos(math.pi * done))
        if warm:
            warming = self.peak * ops.minimum(rising / warm, 1.0)
            rate = ops.where(at < warm, warming, rate)
        return ops.cast(rate, keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {name: getattr(self, name) for name in ("peak", "warmup", "end", "by", "total")}

    def _length(self) -> tuple[int, int | None]:
        """Return the total steps and the steps per epoch, or None where epochs do not matter."""
        if self._steps is None or (self.by == "epoch" and self._steps_per_epoch is None):
            what = "epoch" if self._steps is not None else "run"
            raise UserError(
                f"the schedule does not know how long {'an' if what == 'epoch' else 'the'} {what}"
                " is",
                where=f"{_WHERE}.{'by' if what == 'epoch' else 'total'}",
                fix="Train with a Trainer, or give total and by='step'.",
            )
        return self._steps, self._steps_per_epoch if self.by == "epoch" else None

    def _warmup_steps(self, total: int) -> int:
        if isinstance(self.warmup, float):
            return round(self.warmup * total)
        return self.warmup


def bind_schedules(
    optimizers: Mapping[str, keras.Optimizer],
    total_steps: int | None,
    steps_per_epoch: int | None,
) -> None:
    """Set the run's length in the schedules of its optimizers, before anything is traced.

    This applies to every schedule with a method `bind`, as `WarmupCosine` has it, including
    user-defined ones.
    """
    for optimizer in optimizers.values():
        bind = getattr(learning_rate_of(optimizer), "bind", None)
        if bind is not None:
            bind(total_steps, steps_per_epoch)


def is_scheduled(optimizer: keras.Optimizer) -> bool:
    """Whether an optimizer's learning rate is computed rather than a variable."""
    return not isinstance(learning_rate_of(optimizer), keras.Variable)


def current_rate(optimizer: keras.Optimizer) -> float:
    """Return, on the host, the learning rate of an optimizer's next update."""
    rate = learning_rate_of(optimizer)
    if isinstance(rate, keras.Variable):
        return float(rate.numpy())
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # By value: a variable on several devices does not convert automatically.
        return float(np.asarray(rate(ops.convert_to_tensor(optimizer.iterations.numpy()))))
    return float(np.asarray(rate()))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
