"""When to save checkpoints, which one is best, and which ones to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from framework.callback import Callback, RunView
from framework.callbacks.monitor import Monitor
from framework.checkpoint.retention import Retention, best_first
from framework.core.direction import by_name, of_metric
from framework.errors import UserError
from framework.every import Every
from framework.options.option import refuse

_WHERE = "callbacks.checkpoint"


class Checkpoint(Callback):
    """Save the state of the run, and keep the latest and the best checkpoints.

    A checkpoint is saved every `save_every`, after a validation with one of the `keep_best` best
    results, and when the run ends, is stopped or is interrupted. Saving is the last action of a
    step, so the checkpoint has the state of all other callbacks after that step. `best` compares
    values of `monitor` that were measured at the step of the checkpoint, never older ones.

    The state is copied, and a thread writes the copy while training continues. The run waits only
    for its last save. A failed save is logged, and leaves earlier checkpoints intact.

    Example:
        >>> checkpoint = Checkpoint("val/accuracy", save_every="10min", keep_last=2, keep_best=3)
        >>> Trainer(run_dir="runs/a", callbacks=[checkpoint])

    Args:
        monitor: Full name of a metric. Default: `val/loss` if it is logged, else the first
            validation metric with a known direction, else `train/loss`.
        mode: `min`, `max`, or `auto` to infer it from the metric or its name.
        save_every: When to save: `500st`, `1ep`, `10min`. None: only the best, and at the end.
        keep_last: Number of latest checkpoints to keep; 1 or more.
        keep_best: Number of best checkpoints to keep; 0 or more.
        keep_every: Keep one checkpoint permanently per interval: `10ep`, `5000st`, `6h`.

    Raises:
        UserError: If an argument is out of range, or, when `fit` starts, if nothing logs
            `monitor`.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: str = "auto",
        save_every: str | None = "1ep",
        keep_last: int = 1,
        keep_best: int = 1,
        keep_every: str | None = None,
    ) -> None:
        if monitor is not None:
            Monitor(monitor, mode, where=_WHERE)  # only to validate both
        for name, count, least in (("keep_last", keep_last, 1), ("keep_best", keep_best, 0)):
            if type(count) is not int or count < least:
                refuse(name, count, f"a whole number of at least {least}", _WHERE)
        self.monitor, self._mode = monitor, mode
        self.keep_last, self.keep_best = keep_last, keep_best
        self.every = _moment("save_every", save_every)
        self._keep_every = _moment("keep_every", keep_every)
        self._kept = 0  # intervals of keep_every so far
        # Not read from the disk, since all workers must save at the same steps.
        self._judged: dict[int, float] = {}
        self._judged_by = ""
        self._saved_at: int | None = None
        self._due = False

    @property
    def identity(self) -> str:
        """Empty: its state stays valid when `monitor` or `mode` changes."""
        return ""

    def on_fit_start(self, run: RunView) -> None:
        """Choose the metric to monitor."""
        name = self.monitor or _first_choice(run)
        self._monitor = Monitor(name, self._mode, where=_WHERE)
        if self.monitor:
            self._monitor.check(run)
        else:
            self._monitor.settle(run)
        self._saved_at, self._due = None, False
        if run.progress.step == 0 or self._judged_by != name:
            self._judged, self._judged_by = {}, name
        run.note_best(self._best())

    def on_wake(self, run: RunView) -> None:
        """Mark a checkpoint as due."""
        self._due = True

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Mark a checkpoint as due if the result is among the best."""
        if run.stage == "fit" and run.progress.step:
            self._due = self._due or self._is_among_best(self._value(run))

    def on_wake_end(self, run: RunView) -> None:
        """Save if due, unless the epoch ends at this step: `on_epoch_end` saves then."""
        if self._due and not run.at_epoch_end:
            self._save(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Save if due, after everything else in the epoch."""
        if self._due:
            self._save(run)

    def on_fit_end(self, run: RunView) -> None:
        """Save the final state, unless the run failed: the last good checkpoint stays."""
        if run.status == "failed" or run.already_complete:
            return
        if self._saved_at != run.progress.step or run.holds_state:
            self._save(run, wait=True)

    def state(self) -> dict[str, Any]:
        """Return the number of permanent checkpoints, and the metric value of each checkpoint."""
        judged = {str(step): value for step, value in self._judged.items()}
        return {"kept": self._kept, "judged": judged, "judged_by": self._judged_by}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._kept, self._judged_by = int(state["kept"]), str(state["judged_by"])
        self._judged = {int(step): float(value) for step, value in state["judged"].items()}

    def _save(self, run: RunView, *, wait: bool = False) -> None:
        step, value = run.progress.step, self._value(run)
        judged = None
        if value is not None:
            judged = {"metric": self._monitor.name, "value": value, "mode": self._monitor.mode}
            self._judged[step] = value
            best = best_first(self._judged, self._monitor.mode)[: max(self.keep_best, 1)]
            self._judged = {step: self._judged[step] for step in best}
            run.note_best(self._best())
        moments = _moments(self._keep_every, run)
        permanent, self._kept = moments > self._kept, max(moments, self._kept)
        retention = Retention(self.keep_last, self.keep_best, self._monitor.mode)
        self._due, self._saved_at = False, step
        run.save_checkpoint(wait=wait, judged=judged, permanent=permanent, retention=retention)

    def _value(self, run: RunView) -> float | None:
        """Return the metric if it was measured at this step and is finite."""
        name = self._monitor.name
        if run.measured_at(name) != run.progress.step:
            return None
        value = float(run.metrics[name])
        return value if math.isfinite(value) else None

    def _is_among_best(self, value: float | None) -> bool:
        if value is None or not self.keep_best:
            return False
        better = [v for v in self._judged.values() if not self._monitor.improves(value, v)]
        return len(better) < self.keep_best

    def _best(self) -> dict[str, Any] | None:
        if not self._judged:
            return None
        step = best_first(self._judged, self._monitor.mode)[0]
        return {"step": step, "metric": self._monitor.name, "value": self._judged[step]}


def _moment(name: str, text: str | None) -> Every | None:
    if text is None:
        return None
    try:
        return Every(text)
    except UserError as error:
        raise UserError(error.what, where=f"{_WHERE}.{name}", fix=error.fix) from None


def _moments(every: Every | None, run: RunView) -> int:
    """Return how many intervals have passed since the run started."""
    if every is None:
        return 0
    progress = run.progress
    if every.seconds is not None:
        return int(progress.seconds // every.seconds)
    return int((progress.step if every.unit == "st" else progress.epoch) // every.count)


def _first_choice(run: RunView) -> str:
    if not run.has_validation:
        return "train/loss"
    names = sorted(name for name in run.metric_names if name.startswith("val/"))
    if "val/loss" in names or not names:
        return "val/loss"
    clear = (name for name in names if of_metric(run.keras_metric(name)) or by_name(name))
    return next(clear, "train/loss")
