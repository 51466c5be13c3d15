"""Ends the run of a hopeless trial, at a validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.callback import Callback, RunView
from framework.callbacks.monitor import Monitor
from framework.core.statuses import PRUNED
from framework.errors import UserError
from framework.search.options import SearchOptions
from framework.search.study import Stored, load_study
from framework.search.trials import trial_of
from framework.sweep.record import JobEntry, Objective

_WHERE = "search.pruner"


class Pruning(Callback):
    """Report every validation of a trial to its study, and end the run if the pruner says so.

    A trial that has been trained to its end is not pruned. The pruner counts validations: a rung of
    successive halving, or the start-up of the median rule, is a number of them.

    Example:
        >>> callback = pruning_of(options, record, job)
        >>> trainer = Trainer(callbacks=[callback])

    Args:
        stored: The study and its storage.
        number: The trial's.
        metric: What to report, such as `val/auc`.
        mode: `min` or `max`: which is better.
    """

    def __init__(self, stored: Stored, number: int, metric: str, mode: str) -> None:
        self._stored, self._number = stored, number
        self._monitor = Monitor(metric, mode, where=_WHERE)
        self._validations, self._pruned = 0, ""

    def on_fit_start(self, run: RunView) -> None:
        """Check that the objective will be measured; stop at once if it was pruned before."""
        try:
            self._monitor.check(run)
        except UserError as error:
            where = f"objective={self._monitor.name}"
            raise UserError(error.what, where=where, fix=error.fix) from None
        self._stop_if_pruned(run)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Report, and ask."""
        value = self._monitor.value(run) if run.stage == "fit" and run.progress.step else None
        if value is None:
            return
        self._validations += 1
        trial = self._stored.trial(self._number)
        if not math.isnan(value):
            trial.report(value, self._validations)
        last = run.total_steps is not None and run.progress.step >= run.total_steps
        if not last and trial.should_prune():
            name = self._monitor.name
            self._pruned = f"{name} {value:.4g} at validation {self._validations} was too bad"
        self._stop_if_pruned(run)

    def state(self) -> dict[str, Any]:
        """Return how many validations there were, and why the run was pruned, if it was."""
        return {"validations": self._validations, "pruned": self._pruned}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._validations, self._pruned = int(state["validations"]), str(state["pruned"])

    def _stop_if_pruned(self, run: RunView) -> None:
        if self._pruned:
            run.stop(self._pruned, status=PRUNED)


def check_prunable(options: SearchOptions, objectives: tuple[Objective, ...]) -> None:
    """Refuse a pruner where there is nothing that it could judge.

    Raises:
        UserError: There are several objectives, or the only one is not of a validation.
    """
    if options.pruner == "none":
        return
    metrics = [each.metric for each in objectives]
    if len(metrics) > 1:
        what, fix = "A pruner judges by one objective, not by several", "Give one, or leave it out."
    elif not metrics[0].startswith("val/"):
        what = f"A pruner judges at validations, which do not measure {metrics[0]}"
        fix = "Give an objective of the validation: objective=val/loss."
    else:
        return
    raise UserError(what, where=f"{_WHERE}={options.pruner}", fix=fix)


def pruning_of(
    options: SearchOptions, sweep_dir: Path, job: JobEntry, objectives: tuple[Objective, ...]
) -> list[Pruning]:
    """Return the callback that prunes a job; none without a pruner, or outside its search."""
    if options.pruner == "none":
        return []
    stored = load_study(options, sweep_dir)
    number = trial_of(stored.study, job)
    if number is None:
        return []
    return [Pruning(stored, number, objectives[0].metric, objectives[0].direction)]
