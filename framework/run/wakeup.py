"""What is done when the host wakes, and what only because a run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from framework.core.state import State
from framework.loop.evaluation import Evaluator
from framework.run.epochs import Epochs
from framework.run.metric_log import MetricLog
from framework.run.stage import Stage
from framework.run.stop_condition import StopCondition
from framework.run.wakeup_plan import Triggers

if TYPE_CHECKING:
    from framework.callback import RunView


class Wakeup:
    """Answers whoever asked for a step: the log, then validation, then callbacks.

    A signal in the midst of that leaves the rest to the run that continues. What is done only
    because the run ends at this step is done to a run that may be given a later end: checkpoints
    hold it as it was before, in `final`.

    Example:
        >>> wakes = Wakeup(run, session, ending, logbook, epochs, timers, evaluator, state)
        >>> wakes.answer()

    Args:
        run: The run, as its callbacks see it.
        stage: Its hooks, models and clock.
        stop_condition: Tells whether it is at an end.
        metric_log: Where metrics go.
        epochs: Where it stands.
        triggers: When `log`, `val` and each callback are due.
        evaluator: Of the validation data.
        state: Returns the state of the run.

    Attributes:
        final: What checkpoints are to hold from now on. None: the state as it is.
        closing: The metrics that were measured only because the run ended.
        validating: Whether a validation is running.
    """

    def __init__(
        self,
        run: RunView,
        stage: Stage,
        stop_condition: StopCondition,
        metric_log: MetricLog,
        epochs: Epochs,
        triggers: Triggers,
        evaluator: Evaluator,
        state: Callable[[], State],
    ) -> None:
        self._run, self._stage, self._call = run, stage, stage.call
        self._state, self.validating = state, False
        self._stop_condition, self._metric_log, self._epochs = stop_condition, metric_log, epochs
        self._triggers, self._evaluator, self._host_sync = triggers, evaluator, stage.host_sync
        self.final: State | None = None
        self.closing: dict[str, float] = {}

    def handle_pending(self) -> None:
        """Do what was due at the step where a run was left before it could be done."""
        pending = self._epochs.take_up()
        if pending:
            self.handle(logged=pending == "validation")

    def handle(self, *, logged: bool = False) -> None:
        """Do what is due at the present step.

        Args:
            logged: The log was answered before.
        """
        at_end, over = self.at_end(), self._epochs.over
        if self._host_sync.interrupted():
            self._leave_open("log")
            return
        run = self._run
        log, validate = self._due("log"), run.has_validation and self._due("val")
        was = self._epochs.validated == run.progress.step
        last_validation = at_end and run.has_validation and not (validate or was)
        if at_end and (last_validation or not over):
            self._save_before_the_end()
        if not logged and (log or over or at_end):
            extra = self._stage.components.precision_values()
            with run.profile("logging"):
                row = self._metric_log.log_train(epoch_over=over or at_end, extra=extra)
            self._call("on_log", row)
        validates = validate or last_validation
        if validates and not self._validate():
            self._leave_open("validation")
            return
        due = [callback for name, callback in self._call.named.items() if self._due(name)]
        self._epochs.handled = run.progress.step
        with run.profile("callbacks"):
            for callback in due:
                callback.on_wake(run)
        if log or validates or due or over or at_end:
            self._call("on_wake_end")

    def at_end(self) -> bool:
        """Tell whether the run has come to an end, and note which."""
        received, done = self._host_sync.received, self._epochs.done
        return self._stop_condition.reached(self._run.progress, received, epochs=done)

    def is_over(self) -> bool:
        """Tell whether it has, and nothing is left to be done there."""
        return self.at_end() and self._run.progress.pending != "end"

    def note_closing(self) -> None:
        """Note that what was to be done at the end is done, and what came of it."""
        if self.final is not None and not (
            self._stop_condition.broken or self._host_sync.interrupted()
        ):
            progress = {**self.final["progress"], "pending": "log"}
            closing = dict(self._run.metrics)
            self.final = {**self.final, "progress": progress, "closing": closing}

    def note_finalized(self, weights: Callable[[], State]) -> None:
        """Note what optimizers have made of the weights at the end, for whoever evaluates it."""
        if self.final is not None:
            self.final = {**self.final, "finalized": weights()}

    def _due(self, listener: str) -> bool:
        return bool(self._epochs.due(self._triggers[listener]))

    def _leave_open(self, pending: str) -> None:
        """Leave what is due at this step to the run that continues from it."""
        self.at_end()
        self._epochs.leave_open(pending)

    def _save_before_the_end(self) -> None:
        with self._epochs.left_open("end"):
            self.final = self._state()
        self._run.save_checkpoint()

    def _validate(self) -> bool:
        """Validate; returns False if a signal came meanwhile."""
        run, self.validating = self._run, True
        self._call("on_validation_start")
        with run.profile("validation"), self._stage.components.averaged():
            metrics = self._evaluator.run(run.progress.step)
        self.validating = False
        if self._host_sync.interrupted():
            return False
        self._epochs.validated = run.progress.step
        run.log_metrics(metrics)
        self._call("on_validation_end", metrics)
        return True
