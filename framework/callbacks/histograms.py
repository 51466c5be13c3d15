"""Logs the distributions of weights and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.callback import Callback
from framework.callbacks.named_weights import weights_by_name
from framework.errors import UserError
from framework.every import Every
from framework.logger import Histogram

if TYPE_CHECKING:
    from framework.callback import RunView


class Histograms(Callback):
    """Log histograms of the weights and their gradients: `weights/<layer>/<variable>`.

    Weights that no longer move, or gradients that are all zero or huge, show which layer does not
    learn. Loggers without histograms, such as the CSV, ignore them.

    The gradients (`gradients/<layer>/<variable>`) are those of the step that was just done, or of
    the last one that did not overflow: of the whole batch on all devices, not scaled and not
    clipped. Each step keeps a copy of them on the device. The host reads and counts them, together
    with the weights, only when `every` is due.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[Histograms(every="500st")])

    Args:
        every: When to log: `500st`, `1ep`, `10min`.
        bins: Number of bins; 1 or more.
        gradients: Log gradients too; without them, steps are as they were.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(self, every: str = "1ep", bins: int = 40, gradients: bool = True) -> None:
        if type(bins) is not int or bins < 1:
            raise UserError(
                f"bins is {bins!r}", where="callbacks.histograms.bins", fix="Give 1 or more."
            )
        self.every, self.bins, self.gradients = Every(every), bins, gradients
        self._run: RunView | None = None

    def on_setup(self, run: RunView) -> None:
        """Have gradients kept, before a step is compiled."""
        self._run = run if run.stage == "fit" and self.gradients else None
        if self._run is not None and run.updates is not None:
            run.updates.keep_gradients()

    def on_wake(self, run: RunView) -> None:
        """Log the histograms."""
        weights = weights_by_name(run.task.model)
        found = {f"weights/{name}": v.numpy() for name, v in weights.items()}
        found |= {f"gradients/{name}": value for name, value in self._kept().items()}
        run.log_histograms({name: Histogram.of(v, self.bins) for name, v in found.items()})

    def state(self) -> dict[str, Any]:
        """Return the gradients if the run was interrupted where they were due to be logged."""
        due = self._run is not None and bool(self._run.progress.pending)
        return {"gradients": self._kept() if due else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        if self._run is None or self._run.updates is None:
            return
        weights = weights_by_name(self._run.task.model)
        for name, value in state["gradients"].items():
            if name in weights:
                self._run.updates.load_gradient(weights[name], value)

    def _kept(self) -> dict[str, Any]:
        run = self._run
        if run is None or run.updates is None:
            return {}
        weights = weights_by_name(run.task.model)
        found = {name: run.updates.gradient(v) for name, v in weights.items()}
        return {name: value for name, value in found.items() if value is not None}
