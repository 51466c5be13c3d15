"""Shows the progress in a Jupyter notebook: a bar, a table of the epochs, the curves."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping

from framework.callback import RunView
from framework.callbacks.cell_output import CellOutput, Show, new_output
from framework.callbacks.epoch_row import EpochRow
from framework.callbacks.progress_bar import ProgressBar
from framework.core.direction import by_name
from framework.every import Every


class NotebookProgress(ProgressBar):
    """Show a run in one output of a notebook's cell, which is redrawn in place.

    It has the bar; a table of the epochs, with training and validation side by side and the best
    epoch marked; and the curves, if matplotlib is installed. Every run in a Jupyter kernel has one
    in place of the `ProgressBar`. It is redrawn at most 4 times a second, the curves less often,
    from values that are on the host already. Outside a kernel it is a `ProgressBar`.

    Example:
        >>> Trainer(max_epochs=5, callbacks=[NotebookProgress(plot=False)])

    Args:
        plot: Draw the curves, if matplotlib is installed.
        output: Opens an output, and returns what shows HTML in it, or plain text where there is no
            HTML. Default: the output of the current cell.
        clock: Returns monotonic seconds; replaced in tests.
    """

    every = Every("0.25s")

    def __init__(
        self,
        plot: bool = True,
        output: Callable[[], Show] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._cell: CellOutput | None = None
        self._by: str | None = None
        self._least = math.inf
        if output is not None or in_notebook():
            self._display = self._cell = CellOutput(output or new_output, clock, plot=plot)

    def on_setup(self, run: RunView) -> None:
        """Begin a new output."""
        self._by, self._least = None, math.inf
        if self._cell is not None:
            self._cell.begin()
        super().on_setup(run)

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Add training metrics to the curves."""
        super().on_log(run, metrics)
        self._add_points(run, metrics)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Add the results to the curves."""
        if run.stage == "fit":
            self._add_points(run, metrics)
        super().on_validation_end(run, metrics)

    def on_fit_end(self, run: RunView) -> None:
        """Say how the run ended."""
        if self._cell is not None:
            self._cell.ending = _ending(run)
        super().on_fit_end(run)

    def _add_points(self, run: RunView, metrics: Mapping[str, float]) -> None:
        if self._cell is not None and run.progress.step > 0:  # not of the check before step 1
            self._cell.curves.add(run.progress.step, metrics)

    def _end_epoch(self, run: RunView, row: EpochRow) -> None:
        if self._cell is None:
            super()._end_epoch(run, row)
            return
        self._add_validation(run, row)

    def _add_validation(self, run: RunView, row: EpochRow) -> None:
        if self._cell is None:
            super()._add_validation(run, row)
            return
        self._cell.rows.append(row)
        if run.best is not None:
            self._cell.best = int(run.best["step"])
        else:
            self._compare(self._cell, row)
        self._show(run)

    def _compare(self, cell: CellOutput, row: EpochRow) -> None:
        """Without checkpoints, the best validation so far is the best."""
        self._by = self._by or _judged(row)
        value = row.val.get(self._by or "", math.nan)
        loss = -value if self._by and by_name(self._by) == "max" else value
        if loss < self._least:
            self._least, cell.best = loss, row.step


def in_notebook() -> bool:
    """Return whether this is a Jupyter kernel; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)
    shell = get_shell() if get_shell else None
    return getattr(shell, "kernel", None) is not None


def _judged(row: EpochRow) -> str | None:
    """Return the metric by which epochs are compared without checkpoints."""
    known = [name for name in row.val if by_name(name)]
    return "val/loss" if "val/loss" in known else next(iter(known), None)


def _ending(run: RunView) -> str:
    if run.status == "failed":  # the cell shows the error
        return run.status
    if run.already_complete:
        return f"already complete: {run.stop_reason}"
    again = run.status == "interrupted" and run.run_dir is not None
    return f"{run.status}: {run.stop_reason}" + (". Fit again to continue." if again else "")
