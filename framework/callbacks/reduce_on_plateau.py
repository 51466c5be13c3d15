"""Lowers the learning rate when a metric no longer improves."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import keras

from framework.callback import RunView
from framework.callbacks.patience import Patience
from framework.errors import UserError, choice
from framework.schedules import current_rate, is_scheduled

_WHERE = "callbacks.reduce_on_plateau"

_log = logging.getLogger("framework")


class ReduceOnPlateau(Patience):
    """Multiply the learning rate by `factor` after `patience` evaluations without improvement.

    A `val/…` metric is judged after every validation, a `train/…` metric at the end of every
    epoch. It decides as `keras.callbacks.ReduceLROnPlateau` does. NaN or an infinite value counts
    as no improvement. A resumed run keeps the counts and the rate, which is a variable of its
    optimizer. Changing the rate does not compile the step again.

    Example:
        >>> ReduceOnPlateau("val/accuracy", factor=0.5, patience=3).monitor.mode
        'max'

    Args:
        monitor: Full name of the metric: `val/loss`, `val/<set>/accuracy`, `train/loss`.
        mode: `min`, `max`, or `auto` to infer it from the Keras metric or the name; an error if
            neither tells.
        factor: Factor to multiply the rate by, between 0 and 1.
        patience: Evaluations in a row without improvement before lowering it; 1 or more.
        min_delta: Smallest change that counts as an improvement; 0 or more.
        cooldown: Evaluations to ignore after a reduction; 0 or more.
        min_learning_rate: Lower bound of the rate; 0 or more.
        optimizer: Name of the optimizer to change. Default: all optimizers.

    Raises:
        UserError: If an argument is out of range; in `fit`, if there is no such optimizer, its
            rate is a schedule, or nothing logs the metric.
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
        super().__init__(monitor, mode, patience, min_delta, where=_WHERE)
        if not 0 < factor < 1:
            self._refuse("factor", factor, "a number between 0 and 1")
        if not 0 <= min_learning_rate < math.inf:
            self._refuse("min_learning_rate", min_learning_rate, "0 or more")
        self.cooldown = self._whole("cooldown", cooldown, least=0)
        self.factor = factor
        self.min_learning_rate, self.optimizer = min_learning_rate, optimizer
        self.cooling = 0

    def on_setup(self, run: RunView) -> None:
        """Check that the optimizers exist and that their rates can be set."""
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

    def state(self) -> dict[str, Any]:
        """Return the best value, the evaluations since, and the rest of the cooldown."""
        return {**super().state(), "cooling": self.cooling}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        super().load_state(state)
        self.cooling = int(state["cooling"])

    def judge(self, run: RunView, value: float) -> None:
        """Lower the rate if the value is no improvement, once too often."""
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.monitor.improves(value, self.best):
            self.best, self.waited = value, 0
        elif not self.cooling:
            self.waited += 1
            if self.waited >= self.patience and self._reduce(run):
                self.cooling, self.waited = self.cooldown, 0

    def _reduce(self, run: RunView) -> bool:
        """Lower all rates above the minimum; return whether there were any."""
        lowered = False
        for name, optimizer in self._chosen(run).items():
            rate = current_rate(optimizer)
            # The variable is single precision, which may round the minimum up a little.
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
