"""Lower the learning rate when a metric no longer improves."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras

from framework.callback import Callback
from framework.callbacks.monitor import Monitor
from framework.errors import UserError, choice
from framework.schedules import current_rate, is_scheduled

if TYPE_CHECKING:
    from framework.callback import RunView

_WHERE = "callbacks.reduce_on_plateau"

_log = logging.getLogger("framework")


class ReduceOnPlateau(Callback):
    """Multiply the learning rate by `factor` after `patience` evaluations without improvement.

    A `val/…` metric is judged after every validation, a `train/…` metric at the end of every
    epoch; decisions are those of `keras.callbacks.ReduceLROnPlateau`. A value that is no finite
    number counts as no improvement. The counts survive a restart, as does the rate itself, which
    is a variable of its optimizer. Nothing is compiled anew.

    Example:
        >>> ReduceOnPlateau("val/accuracy", factor=0.5, patience=3).monitor.mode
        'max'

    Args:
        monitor: Full name of the metric: `val/loss`, `val/<set>/accuracy`, `train/loss`.
        mode: `min`, `max`, or `auto`: as a Keras metric says, or the name; refused if neither does.
        factor: What the rate is multiplied by, between 0 and 1.
        patience: Evaluations in a row without improvement after which to lower it; 1 or more.
        min_delta: What a value must be better by, to count; 0 or more.
        cooldown: Evaluations after a reduction that do not count as waiting; 0 or more.
        min_learning_rate: The rate is never lowered below this; 0 or more.
        optimizer: Whose rate, by the optimizer's name. Default: that of all optimizers.

    Raises:
        UserError: An argument is out of range; in `fit`, if there is no such optimizer, its rate
            is a schedule, or nothing logs the metric.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: str = "auto",
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_learning_rate: float = 0.0,
        optimizer: str | None = None,
    ) -> None:
        self._stage, _, name = monitor.partition("/")
        if self._stage not in ("train", "val") or not name:
            name = re.sub("^(val|train)_", "", monitor.rpartition("/")[2]) or "loss"
            _refuse("monitor", monitor, f"a full name: val/{name} or train/{name}")
        if not 0 < factor < 1:
            _refuse("factor", factor, "a number between 0 and 1")
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            _refuse("patience", patience, "a whole number of at least 1")
        if isinstance(cooldown, bool) or not isinstance(cooldown, int) or cooldown < 0:
            _refuse("cooldown", cooldown, "a whole number of evaluations, 0 or more")
        if not 0 <= min_learning_rate < math.inf:
            _refuse("min_learning_rate", min_learning_rate, "0 or more")
        self.monitor = Monitor(monitor, mode, min_delta=min_delta, where=_WHERE)
        self.factor, self.patience, self.cooldown = factor, patience, cooldown
        self.min_learning_rate, self.optimizer = min_learning_rate, optimizer
        self.best: float | None = None
        self.waited = self.cooling = 0
        self._epoch = 1

    def on_setup(self, run: RunView) -> None:
        """Refuse an optimizer that is not there, or whose rate is not to be set."""
        if run.stage != "fit":
            return
        for name, optimizer in self._chosen(run).items():
            if is_scheduled(optimizer):
                raise UserError(
                    f"the learning rate of the optimizer {name!r} follows a schedule",
                    where=f"{_WHERE}.optimizer",
                    fix="Give it a number as its learning_rate (schedule=none), or leave "
                    "reduce_on_plateau out.",
                )

    def on_fit_start(self, run: RunView) -> None:
        """Refuse to watch a metric that nothing logs."""
        self.monitor.check(run)

    def on_epoch_start(self, run: RunView) -> None:
        """Note which epoch begins."""
        self._epoch = run.progress.epoch + 1

    def on_epoch_end(self, run: RunView) -> None:
        """Judge a `train/…` metric."""
        # The run may have ended before the epoch did; it goes on with it another time.
        if self._stage == "train" and run.progress.epoch >= self._epoch:
            self._judge(run)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Judge a `val/…` metric, in training only, and not before the first step."""
        if self._stage == "val" and run.stage == "fit" and run.progress.step > 0:
            self._judge(run)

    def state(self) -> dict[str, Any]:
        """Return the best value so far, the evaluations since, and those left to cool down."""
        return {"best": self.best, "waited": self.waited, "cooling": self.cooling}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        best = state["best"]
        self.best = None if best is None else float(best)
        self.waited, self.cooling = int(state["waited"]), int(state["cooling"])

    def _judge(self, run: RunView) -> None:
        value = self.monitor.value(run)
        if value is None:  # it was not judged, neither well nor badly
            return
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.monitor.improves(value, self.best):
            self.best, self.waited = value, 0
        elif not self.cooling:
            self.waited += 1
            if self.waited >= self.patience and self._reduce(run):
                self.cooling, self.waited = self.cooldown, 0

    def _reduce(self, run: RunView) -> bool:
        """Lower what is above the least rate; tell whether there was any."""
        lowered = False
        for name, optimizer in self._chosen(run).items():
            rate = current_rate(optimizer)
            # The rate is kept in single precision, where the least one may be a little above it.
            if rate <= self.min_learning_rate * (1 + 1e-6):
                continue
            new = max(rate * self.factor, self.min_learning_rate)
            optimizer.learning_rate = new
            of = f" of {name!r}" if len(run.optimizers) > 1 else ""
            _log.info(
                "%s is on a plateau: learning rate%s %.3g -> %.3g", self.monitor.name, of, rate, new
            )
            lowered = True
        return lowered

    def _chosen(self, run: RunView) -> dict[str, keras.Optimizer]:
        found = run.optimizers
        if self.optimizer is None:
            return found
        if self.optimizer not in found:
            raise UserError(
                f"there is no optimizer {self.optimizer!r}",
                where=f"{_WHERE}.optimizer",
                fix=choice(self.optimizer, found),
            )
        return {self.optimizer: found[self.optimizer]}


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"{_WHERE}.{name}", fix=f"Give {wanted}.")
