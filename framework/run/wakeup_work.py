"""The work of a wake-up, and the extra work at the end of a run."""

from __future__ import annotations

from collections.abc import Callable

from framework.callback import RunView
from framework.core.state import State
from framework.loop.evaluation import Evaluator
from framework.run.epoch_position import Epochs
from framework.run.metric_log import MetricLog
from framework.run.stage_context import Stage
from framework.run.stop_condition import StopCondition
from framework.run.wakeup_plan import Triggers


class Wakeup:
    """Do the work that is due at a step: first the log, then validation, then callbacks.

    If a signal arrives meanwhile, the rest is left to the run that resumes (`Progress.pending`).

    Work that is done only because the run ends here must not affect a run that is later extended.
    From then on checkpoints store the state from before it, `final`, in which that work is pending
    (`end`). Once it is done, its metrics are added as `closing`, for a run that is found complete,
    and weights that optimizers set at the end as `finalized`, for evaluations. A callback that
    changes weights at the end has the state held in the same way (`RunView.hold_state`), and
    `Checkpoint` saves once more if it is held.

    Attributes:
        final: The state that checkpoints store. None: the current state.
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
        """Finish the work that was due at the step where the run was interrupted."""
        pending = self._epochs.take_up()
        if pending:
            self.handle(logged=pending == "validation")

    def handle(self, *, logged: bool = False) -> None:
        """Do what is due at the current step, except for the log if that was written already."""
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
            with self._metric_log.one_row():  # callbacks add to it
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
        """Whether the run has ended; records why."""
        received, done = self._host_sync.received, self._epochs.done
        return self._stop_condition.reached(self._run.progress, received, epochs=done)

    def is_over(self) -> bool:
        """Whether the run has ended and no work is left at its end."""
        return self.at_end() and self._run.progress.pending != "end"

    def note_closing(self) -> None:
        """Record that the work at the end is done, and its result."""
        if self.final is not None and not (
            self._stop_condition.broken or self._host_sync.interrupted()
        ):
            progress = {**self.final["progress"], "pending": "log"}
            closing = dict(self._run.metrics)
            self.final = {**self.final, "progress": progress, "closing": closing}

    def note_finalized(self, weights: Callable[[], State]) -> None:
        """Record the weights that optimizers finalized at the end, for a later evaluation."""
        if self.final is not None:
            self.final = {**self.final, "finalized": weights()}

    def _due(self, listener: str) -> bool:
        return bool(self._epochs.due(self._triggers[listener]))

    def _leave_open(self, pending: str) -> None:
        """Leave what is due at this step to the run that resumes from it."""
        self.at_end()
        self._epochs.leave_open(pending)

    def _save_before_the_end(self) -> None:
        with self._epochs.left_open("end"):
            self.final = self._state()
        self._run.save_checkpoint()

    def _validate(self) -> bool:
        """Validate; return False if a signal arrived meanwhile."""
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
