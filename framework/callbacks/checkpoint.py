"""Checkpoints: when they are saved, which one is best, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.callback import Callback
from framework.callbacks.direction import by_name, of_metric
from framework.callbacks.monitor import Monitor
from framework.checkpoint.retention import Retention
from framework.errors import UserError
from framework.every import Every

if TYPE_CHECKING:
    from framework.callback import RunView

_WHERE = "callbacks.checkpoint"


class Checkpoint(Callback):
    """Saves the state of the run, and keeps the last and the best checkpoints.

    Saved every `save_every`, after a validation whose result is among the `keep_best` best, and
    when the run ends, is stopped or interrupted. A save is the last thing that happens at its
    step, so it holds what everybody else has become by then. `best` is judged by `monitor` as it
    was measured at that very step, never by an older value.

    The state is copied, and written by a thread while training goes on; only the last save of a
    run is waited for. One that fails is reported in the log, and leaves the earlier ones whole.

    Example:
        >>> checkpoint = Checkpoint("val/accuracy", save_every="10min", keep_last=2, keep_best=3)
        >>> Trainer(run_dir="runs/a", callbacks=[checkpoint])

    Args:
        monitor: A metric's full name. Default: `val/loss` where it is logged, else the first of
            the validation's metrics of which it is known which way they are better, else
            `train/loss`.
        mode: `min`, `max`, or `auto`: as the metric or its name says.
        save_every: When to save: `500st`, `1ep`, `10min`. None: only the best, and at the end.
        keep_last: How many of the latest to keep; 1 or more.
        keep_best: How many of the best to keep; 0 or more.
        keep_every: Keep one for good each time that so much has passed: `10ep`, `5000st`, `6h`.

    Raises:
        UserError: An argument is out of range; at the start of `fit`, if nothing logs `monitor`.
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
            Monitor(monitor, mode, where=_WHERE)  # refuses what is none
        for name, count, least in (("keep_last", keep_last, 1), ("keep_best", keep_best, 0)):
            if type(count) is not int or count < least:
                fix = f"Give a whole number of at least {least}."
                raise UserError(f"{name} is {count!r}", where=f"{_WHERE}.{name}", fix=fix)
        self.monitor, self._mode = monitor, mode
        self.keep_last, self.keep_best = keep_last, keep_best
        self.every = _moment("save_every", save_every)
        self._keep_every = _moment("keep_every", keep_every)
        self._kept = 0  # moments of keep_every so far
        # Not read from the disk: of several workers all have to save at the same steps.
        self._judged: dict[int, float] = {}
        self._judged_by = ""
        self._saved_at: int | None = None
        self._due = False

    @property
    def identity(self) -> str:
        """None: what it has kept so far counts whatever it judges by."""
        return ""

    def on_fit_start(self, run: RunView) -> None:
        """Choose what to judge by."""
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
        """Note that a checkpoint is due."""
        self._due = True

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Note that one of the best is due to be saved."""
        if run.stage == "fit" and run.progress.step:
            self._due = self._due or self._is_among_best(self._value(run))

    def on_wake_end(self, run: RunView) -> None:
        """Save what is due, unless the end of the epoch is still to come at this step."""
        if self._due and not run.at_epoch_end:
            self._save(run)

    def on_epoch_end(self, run: RunView) -> None:
        """Save what is due at the last moment of the epoch."""
        if self._due:
            self._save(run)

    def on_fit_end(self, run: RunView) -> None:
        """Save where the run ended, unless it failed: the last good checkpoint stays."""
        if run.status == "failed" or run.already_complete:
            return
        if self._saved_at != run.progress.step or run.holds_state:
            self._save(run, wait=True)

    def state(self) -> dict[str, Any]:
        """Return how many checkpoints were to be kept for good, and how all were judged."""
        judged = {str(step): value for step, value in self._judged.items()}
        return {"kept": self._kept, "judged": judged, "judged_by": self._judged_by}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._kept, self._judged_by = int(state["kept"]), str(state["judged_by"])
        self._judged = {int(step): float(value) for step, value in state["judged"].items()}

    def _save(self, run: RunView, *, wait: bool = False) -> None:
        step, value = run.progress.step, self._value(run)
        judged = None
        if value is not None:
            judged = {"metric": self._monitor.name, "value": value, "mode": self._monitor.mode}
            self._judged[step] = value
            self._judged = dict(self._in_order()[: max(self.keep_best, 1)])
            run.note_best(self._best())
        moments = _moments(self._keep_every, run)
        permanent, self._kept = moments > self._kept, max(moments, self._kept)
        retention = Retention(self.keep_last, self.keep_best, self._monitor.mode)
        self._due, self._saved_at = False, step
        run.save_checkpoint(wait=wait, judged=judged, permanent=permanent, retention=retention)

    def _value(self, run: RunView) -> float | None:
        """Return the metric if it was measured at this step and is a finite number."""
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
        step, value = self._in_order()[0]
        return {"step": step, "metric": self._monitor.name, "value": value}

    def _in_order(self) -> list[tuple[int, float]]:
        """Return steps and values, the best first."""
        sign = -1 if self._monitor.mode == "max" else 1
        return sorted(self._judged.items(), key=lambda pair: (sign * pair[1], pair[0]))


def _moment(name: str, text: str | None) -> Every | None:
    if text is None:
        return None
    try:
        return Every(text)
    except UserError as error:
        raise UserError(error.what, where=f"{_WHERE}.{name}", fix=error.fix) from None


def _moments(every: Every | None, run: RunView) -> int:
    """Return how often an interval has passed since the run began."""
    if every is None:
        return 0
    progress = run.progress
    if every.seconds is not None:
        return int(progress.seconds // every.seconds)
    return int((progress.step if every.unit == "st" else progress.epoch) // every.count)


def _first_choice(run: RunView) -> str:
    if not run.has_validation:
        return "train/loss"
    default = "val/loss"
    names = sorted(run.metric_names)
    evaluated = [name for name in names if name.startswith("val/")]
    if default in names or not evaluated:
        return default
    told = [n for n in evaluated if of_metric(run.keras_metric(n)) or by_name(n)]
    return told[0] if told else "train/loss"
