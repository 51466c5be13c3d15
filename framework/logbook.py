"""Training metrics on their way from the device to the loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framework.checkpoint.state import State, load_variables, variables_state
from framework.engine.accumulator import Accumulator, Sums, add_sums, means


class Logbook:
    """Turns what the steps have added up into rows.

    A row holds each value's mean over the steps since the last row; at the end of an epoch also
    its mean over the epoch, as `<name>_epoch`. Keras metrics, which only their own rule can
    combine, are given as they stand since the start of the epoch.

    Example:
        >>> book = Logbook(engine.train)
        >>> book.row()
        {'train/loss': 2.31, 'train/accuracy': 0.14}
        >>> book.epoch()
        {'train/loss': 1.87, 'train/accuracy': 0.33}
    """

    def __init__(self, accumulator: Accumulator) -> None:
        self._accumulator = accumulator
        self._epoch: Sums = {}

    def row(self) -> dict[str, float]:
        """Read and reset the sums: the means since the last row, by full name."""
        sums = self._accumulator.sums()
        self._accumulator.reset()
        self._epoch = add_sums(self._epoch, sums)
        counted = {name: pair for name, pair in sums.items() if pair[1]}
        return _train({**means(counted), **self._accumulator.results()})

    def epoch(self) -> dict[str, float]:
        """Return the means of the epoch's rows so far, by full name."""
        return _train({**means(self._epoch), **self._accumulator.results()})

    def start_epoch(self) -> None:
        """Forget the last epoch."""
        self._epoch = {}
        self._accumulator.reset()
        for metric in self._accumulator.keras_metrics.values():
            metric.reset_state()

    def state(self) -> State:
        """Return what has been added up in mid-epoch."""
        metrics = self._accumulator.keras_metrics.items()
        return {
            "epoch": {name: list(pair) for name, pair in self._epoch.items()},
            "row": {name: list(pair) for name, pair in self._accumulator.sums().items()},
            "keras": {name: variables_state(metric.variables) for name, metric in metrics},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._epoch = {name: (total, weight) for name, (total, weight) in state["epoch"].items()}
        self._accumulator.load({name: (a, b) for name, (a, b) in state["row"].items()})
        for name, metric in self._accumulator.keras_metrics.items():
            if name in state["keras"]:
                load_variables(metric.variables, state["keras"][name], f"metric {name}")


def _train(values: Mapping[str, float]) -> dict[str, float]:
    return {f"train/{name}": value for name, value in values.items()}
