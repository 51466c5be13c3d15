"""Logs texts about a run: its model, its data, and why it ended."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from framework.callback import Callback
from framework.callbacks.live_line import Screen
from framework.callbacks.model_summary import ModelSummary, models_by_name

if TYPE_CHECKING:
    from framework.callback import RunView

_log = logging.getLogger("framework")


class Description(Callback):
    """Log the model's summary and graph, facts about the data, and the reason for the end.

    They appear where a run's curves are, such as in TensorBoard's Text and Graphs tabs. It is one
    of the callbacks that every run has.

    Example:
        >>> Trainer(run_dir="runs/a", loggers=[TensorBoardLogger()], callbacks=[Description()])
    """

    def on_fit_start(self, run: RunView) -> None:
        """Log what describes a new run."""
        if run.run_dir is None or run.progress.step:
            return
        summary = io.StringIO()
        ModelSummary(console=Screen(file=summary)).on_fit_start(run)
        run.log_text("model", summary.getvalue().rstrip())
        run.log_text("data", _lines(run.data_info))
        self._log_graph(run)

    def on_fit_end(self, run: RunView) -> None:
        """Log the reason for the end."""
        if run.run_dir is not None and not run.already_complete:
            run.log_text("stop_reason", f"{run.status}: {run.stop_reason}")

    def _log_graph(self, run: RunView) -> None:
        from framework.callbacks.model_graph import model_graph

        if run.config.engine == "eager":
            return  # the model may be Python that cannot be traced
        try:
            run.log_graph(lambda: model_graph(models_by_name(run.task.model)))
        except OSError:
            raise
        except Exception as error:  # user code, in a call that only draws it
            _log.debug("the model's graph is not drawn", exc_info=error)


def _lines(facts: Mapping[str, object]) -> str:
    width = max(map(len, facts), default=0)
    return "\n".join(f"{name.replace('_', ' '):{width}}  {fact}" for name, fact in facts.items())
