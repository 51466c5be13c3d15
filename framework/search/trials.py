"""The trials of a search: which is next, who runs it, and what came of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from framework.core.lock import locked
from framework.core.safe_files import ours
from framework.core.statuses import PRUNED
from framework.errors import UserError
from framework.search.options import SearchOptions
from framework.search.samplers import grid_of
from framework.search.space import Space, overrides_of, suggest
from framework.search.study import load_study
from framework.sweep.claim import Standing, standing_of, standings
from framework.sweep.record import FOLDER, JobEntry, SweepRecord, wait_for
from framework.sweep.table import check_measured

RUN_DIR = "run_dir"
"""The attribute of a trial that names its run directory."""
_LOCK = "study.lock"
_PATIENCE = 60.0  # seconds; asking takes milliseconds
_NO_END = ("not run", "killed", "interrupted")


@dataclass
class _Held:
    """A trial that this process runs, and the lock that says so."""

    trial: FrozenTrial
    job: JobEntry
    lock: int


class Trials:
    """Ask the study for trials, one after the other, and tell it what came of each.

    A trial is a job of the sweep, which is known by its parameters. Whoever runs a trial holds a
    lock on its file, so that another process, or the same command after a kill, sees which trials
    nobody runs any more, and goes on with those first. A trial with the parameters of an earlier
    one is the same job: it gets what that one measured.

    Example:
        >>> with Trials(record, options, space, fixed=["task=mine"]) as trials:
        ...     while overrides := trials.take():
        ...         launch(overrides)
        ...         trials.settle()

    Args:
        record: The record of the sweep.
        options: Those of the search.
        space: What it varies.
        fixed: The overrides of every job.

    Attributes:
        wrong: Whether the command is wrong, and not the values of a trial: the very first one was
            refused, or none measures the objective.
    """

    def __init__(
        self, record: SweepRecord, options: SearchOptions, space: Space, fixed: Sequence[str]
    ) -> None:
        self._record, self._space, self._fixed = record, space, list(fixed)
        self._objectives = record.read().objectives
        self._stored = load_study(options, record.path, space)
        self._study = self._stored.study
        self._most = options.n_trials
        if options.sampler == "grid":
            points = 1
            for values in grid_of(space).values():
                points *= len(values)
            self._most = min(self._most, points)
        self._until = time.monotonic() + options.seconds if options.seconds else None
        self._held: dict[int, _Held] = {}
        self._tried: set[int] = set()
        self._elsewhere: list[int] = []
        self.wrong = False

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        if self.wrong:
            self._undo()
        for held in self._held.values():
            os.close(held.lock)
        self._held.clear()

    def _undo(self) -> None:
        """Remove a study that has come to nothing, so that a corrected command can make it."""
        with opening(self._record.path):
            trials = self._study.get_trials(deepcopy=False)
            if all(t.number in self._held and not t.state.is_finished() for t in trials):
                optuna.delete_study(study_name=self._study.study_name, storage=self._stored.storage)

    @property
    def left(self) -> int:
        """How many trials have not ended yet, of those that there are to be."""
        return max(0, self._most - sum(self._ended().values()))

    def __str__(self) -> str:
        """How many trials have ended, and how."""
        ended = self._ended()
        kinds = "".join(f", {count} {kind}" for kind, count in ended.items())
        return f"{sum(ended.values())} of {self._most} trials have ended{kinds}"

    def _ended(self) -> dict[str, int]:
        trials = self._study.get_trials(deepcopy=False)
        return Counter(t.state.name.lower() for t in trials if t.state.is_finished())

    @property
    def elsewhere(self) -> list[int]:
        """The trials that other processes run, as the last `take` found them."""
        return self._elsewhere

    @property
    def stopped(self) -> bool:
        """Whether no trial is to start any more, however many are left."""
        late = self._until is not None and time.monotonic() >= self._until
        return late or self.wrong

    def take(self) -> list[str] | None:
        """Return the overrides of the next job to run; None if there is none now.

        First come trials that nobody runs any more, then new ones.
        """
        with opening(self._record.path):
            while not self.stopped:
                held = self._abandoned() or self._new()
                if held is None:
                    return None
                found = standing_of(self._record, held.job)
                # If no trial tells of a refusal, it stopped the search, and has been corrected.
                corrected = found.status == "refused" and not self._is_told(held.job)
                if corrected or found.status in _NO_END:
                    self._tried.add(held.trial.number)
                    return [*self._fixed, *held.job.overrides]
                if found.status != "running":  # it ended, but the study was not told
                    self._tell(held, found)
                if not self.wrong:
                    self._let_go(held)
        return None

    def settle(self) -> None:
        """Tell the study what came of the jobs that have ended."""
        for held in list(self._held.values()):
            found = standing_of(self._record, held.job)
            if found.status in ("running", "not run"):
                continue
            if found.status != "interrupted":  # else it goes on when the search does
                self._tell(held, found)
            if not self.stopped:
                self._let_go(held)

    def let_go(self) -> None:
        """Leave to others what has not ended, when nothing runs that this process started."""
        for held in [] if self.stopped else list(self._held.values()):
            if standing_of(self._record, held.job).status == "running":  # another process runs it
                self._tried.discard(held.trial.number)
            self._let_go(held)

    def _abandoned(self) -> _Held | None:
        """Return a trial that has begun, and that nobody runs."""
        self._elsewhere = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number in self._held or trial.number in self._tried:
                continue
            held = self._hold(trial)
            if held and standing_of(self._record, held.job).status != "running":
                return held
            if held:
                self._let_go(held)
            self._elsewhere.append(trial.number)
        return None

    def _new(self) -> _Held | None:
        if len(self._study.get_trials(deepcopy=False)) >= self._most:
            return None
        trial = self._study.ask()
        return self._hold(self._study.get_trials(deepcopy=False)[trial.number])

    def _hold(self, trial: FrozenTrial) -> _Held | None:
        """Return a trial with a lock on it; None if another process has that."""
        place = self._record.path / FOLDER / f"trial-{trial.number}.lock"
        lock = ours(place, os.O_RDWR | os.O_CREAT)
        if not locked(lock):
            os.close(lock)
            return None
        job = self._record.register([*self._fixed, *overrides_of(self._params(trial))])
        if trial.user_attrs.get(RUN_DIR) != job.directory:
            self._stored.trial(trial.number).set_user_attr(RUN_DIR, job.directory)
        held = self._held[trial.number] = _Held(trial, job, lock)
        return held

    def _params(self, trial: FrozenTrial) -> dict[str, object]:
        """Return a trial's parameters; draw those that a kill has left out."""
        if self._space.keys() - trial.params.keys():
            drawing = self._stored.trial(trial.number)
            return {key: suggest(drawing, key, each) for key, each in self._space.items()}
        return {key: trial.params[key] for key in self._space}

    def _is_told(self, job: JobEntry) -> bool:
        return any(
            trial.state.is_finished() and trial.user_attrs.get(RUN_DIR) == job.directory
            for trial in self._study.get_trials(deepcopy=False)
        )

    def _let_go(self, held: _Held) -> None:
        os.close(held.lock)
        del self._held[held.trial.number]

    def _tell(self, held: _Held, found: Standing) -> None:
        """Tell the study how a trial has ended."""
        try:
            check_measured(standings(self._record), self._objectives)
        except UserError:  # whoever shows the table says so
            self.wrong = True
        self.wrong = self.wrong or (found.status == "refused" and not self._ended())
        if self.wrong:
            return
        names = [objective.metric for objective in self._objectives]
        values: list[float] | None = None
        if found.status == PRUNED:
            state = TrialState.PRUNED
        elif found.finished and all(name in found.metrics for name in names):
            state, values = TrialState.COMPLETE, [found.metrics[name] for name in names]
        else:
            state = TrialState.FAIL
        # Another process may have told it before it let go of the trial.
        self._study.tell(held.trial.number, values, state, skip_if_finished=True)


@contextmanager
def opening(sweep_dir: Path) -> Iterator[None]:
    """Keep other processes from asking the study, or making it, while the body runs."""
    folder = sweep_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    handle = ours(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        wait_for(handle, _PATIENCE, sweep_dir)
        yield
    finally:
        os.close(handle)


def trial_of(study: Study, job: JobEntry) -> int | None:
    """Return the number of the running trial that a job belongs to, if there is one."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(RUN_DIR) == job.directory:
            return trial.number
    return None
