"""Track a run's position within its epochs, and where the next ones end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.errors import UserError
from framework.loop.compiled import Loop
from framework.run.wakeup_plan import Trigger, WakeupPlan


class Epochs:
    """The epochs of a run, which may differ in length, and the current position in them.

    Attributes:
        loop: The loop of the current epoch.
        length: Steps of the current epoch. None while unknown, that is, until the epoch ends, if
            only reading the data reveals it.
        over: Whether the current epoch has ended.
        handled: The last step at which log, validation and callbacks were done. The end of an
            epoch may be detected only after that.
        validated: The step of the last validation.
    """

    def __init__(
        self, config: TrainerConfig, progress: Progress, loops: Mapping[int, Loop]
    ) -> None:
        self._config, self._progress, self._loops = config, progress, loops
        self._learnt: dict[int, int] = {}
        self._ended: tuple[int, int] | None = None  # an epoch and its length, once known
        self.handled = self.validated = -1
        self.over = False
        self.begin()

    def begin(self) -> None:
        """Start the epoch at which `progress` stands."""
        self.over = False
        self.loop = self._loops[self._config.accumulate_in(self._progress.epoch)]
        self.length = self.steps_in(self._progress.epoch)
        if self._ended is not None and self._ended[0] == self._progress.epoch:
            self.length = self._ended[1]
        elif self._config.resume_data == "restart" and self._progress.batch:
            # The data start again within the epoch, which stays as long as the others.
            self.length = self.expected

    def steps_in(self, epoch: int) -> int | None:
        """Return the steps of an epoch, or None while that is unknown."""
        return self._loops[self._config.accumulate_in(epoch)].source.steps

    @property
    def expected(self) -> int | None:
        """The expected length of the current epoch: its own if known, else the last epoch's."""
        if self.length is not None:
            return self.length
        return self._learnt.get(self._config.accumulate_in(self._progress.epoch))

    def end(self) -> int | None:
        """Return the step at which this epoch or the run ends, whichever comes first."""
        start = self._progress.step - self._progress.batch
        epoch_end = None if self.length is None else start + self.length
        ends = [n for n in (epoch_end, self._config.max_steps) if n is not None]
        return min(ends) if ends else None

    def total_steps(self) -> int | None:
        """Return the total number of planned optimizer steps, or None if it is unknown."""
        count, steps = self._config.max_epochs, None
        if count is not None:
            # Epochs have equal length while the number of batches to accumulate is the same.
            firsts = sorted(epoch for epoch in self._config.accumulate_by_epoch if epoch < count)
            ends = [*firsts[1:], count]
            lengths = [self.steps_in(first) for first in firsts]
            if None not in lengths:
                spans = zip(firsts, ends, lengths, strict=True)
                steps = sum((end - first) * (length or 0) for first, end, length in spans)
        known = [n for n in (steps, self._config.max_steps) if n is not None]
        return min(known) if known else None

    def advance(self, steps: int, examples: int, *, ended: bool) -> None:
        """Record a finished span of the loop; the data `ended` if it is shorter than requested."""
        progress = self._progress
        progress.step += steps
        progress.batch += steps
        progress.examples += examples
        if ended and not progress.batch:
            raise UserError(
                "the train set has no batches",
                where="data.train",
                fix="Provide at least one batch; check what selects them, such as a filter.",
            )
        if ended:
            self.length = progress.batch
            self._ended = (progress.epoch, progress.batch)
            self._learnt[self._config.accumulate_in(progress.epoch)] = progress.batch
        if self.length is not None and progress.batch >= self.length:
            self.loop.source.finished(progress.epoch)
            self._close()

    @property
    def done(self) -> int:
        """Finished epochs, including one that was left open at its last batch."""
        progress = self._progress
        return progress.epoch + (progress.batch > 0 and progress.batch == self.length)

    def leave_open(self, pending: str) -> None:
        """Reopen the epoch: another run will do what is due here; see `Progress.pending`."""
        self._progress.pending, self.handled = pending, -1
        if self.over:
            self._progress.epoch -= 1
            self._progress.batch = self.length or 0
            self.over = False

    @contextmanager
    def left_open(self, pending: str) -> Iterator[None]:
        """Reopen the epoch only while the body runs."""
        over, handled = self.over, self.handled
        self.leave_open(pending)
        try:
            yield
        finally:
            self._progress.pending, self.handled = "", handled
            if over:
                self._close()

    def take_up(self) -> str:
        """Return what is pending at the current step, and clear it."""
        pending, self._progress.pending = self._progress.pending, ""
        if pending and self.length is not None and self._progress.batch >= self.length:
            self._close()
        return pending

    def state(self) -> dict[str, Any]:
        """Return the epoch lengths that only running revealed, and the last handled step."""
        learnt = {str(batches): steps for batches, steps in self._learnt.items()}
        ended = None if self._ended is None else list(self._ended)
        steps = {"handled": self.handled, "validated": self.validated}
        return {"learnt": learnt, "ended": ended, **steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._learnt = {int(batches): steps for batches, steps in state["learnt"].items()}
        epoch, length = state.get("ended") or (-1, 0)
        self._ended = (epoch, length) if length else None
        self.handled = int(state.get("handled", -1))
        self.validated = int(state.get("validated", -1))
        self.begin()

    def next_stop(self, schedule: WakeupPlan) -> int:
        """Return the step to run to."""
        return schedule.next_stop(
            self._progress.step, self.end(), self.length, self._start(), self.expected
        )

    def due(self, timer: Trigger) -> bool:
        """Whether a listener is due at the current step."""
        again = self.handled == self._progress.step
        if again and timer.every is not None and timer.every.unit != "ep":
            return False
        return timer.due(
            self._progress.step,
            self.length,
            epoch_ends=self.over,
            epochs=self._progress.epoch,
            epoch=self._start(),
            expected=self.expected,
        )

    def _close(self) -> None:
        self._progress.epoch += 1
        self._progress.batch, self.over = 0, True

    def _start(self) -> tuple[int, int]:
        """Return the number and the first step of the epoch that the last step belongs to."""
        progress = self._progress
        if self.over:
            return progress.epoch - 1, progress.step - (self.length or 0)
        return progress.epoch, progress.step - progress.batch
