"""The one record of a run's progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """The progress of training: plain numbers, without imports from the trainer.

    Example:
        >>> Progress(epoch=1, batch=0, step=1563)
        Progress(epoch=1, batch=0, step=1563, examples=0, seconds=0.0, pending='')

    Attributes:
        epoch: Epochs finished.
        batch: Batches done in the current epoch; 0 between two epochs.
        step: Optimizer steps done in total: the only x-axis.
        examples: Training examples seen so far.
        seconds: Wall time of training so far, including earlier runs in the same directory.
        pending: The work left at `step` when a run was interrupted there: `log` (log, validate,
            wake callbacks), `validation` (the same without the log), `end` (the same, plus the work
            at the end of the run), or nothing.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    pending: str = ""

    def state(self) -> dict[str, Any]:
        """Return the progress as a state."""
        return asdict(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Copy the values of another record, by name."""
        for each in fields(self):
            setattr(self, each.name, state[each.name])

    @property
    def current_epoch(self) -> int:
        """The number, from 1, of the current epoch; between two epochs, of the last one."""
        return self.epoch + 1 if self.batch else max(self.epoch, 1)
