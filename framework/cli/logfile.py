"""What `log.txt` records besides the messages on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from io import StringIO

from framework.callback import Callback, RunView
from framework.callbacks.live_line import Screen, in_order
from framework.callbacks.model_summary import ModelSummary

_log = logging.getLogger("framework")


class RunLog(Callback):
    """Write the model, every epoch and every result to the run's log, but not to the terminal."""

    def on_fit_start(self, run: RunView) -> None:
        """Write the model."""
        text = StringIO()
        ModelSummary(console=Screen(file=text, width=100)).on_fit_start(run)
        _log.debug("The model:\n%s", text.getvalue().rstrip())

    def on_epoch_end(self, run: RunView) -> None:
        """Write the epoch's metrics."""
        epoch = run.progress.epoch + (run.progress.batch > 0)
        _note(f"epoch {epoch}, step {run.progress.step:,}", run.metrics)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Write the results of a validation in mid-epoch."""
        if run.stage == "validate":
            _note("validation", metrics)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Write the results of a test."""
        _note("test", metrics)


def _note(what: str, metrics: Mapping[str, float]) -> None:
    shown = {k: v for k, v in metrics.items() if not k.endswith("_epoch")}
    shown = in_order(shown, shown)
    _log.debug("%s:  %s", what, "  ".join(f"{name} {value:.4f}" for name, value in shown.items()))
