"""The one record of how far a run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Where training stands. Plain numbers; imports nothing of the trainer.

    Example:
        >>> Progress(epoch=1, batch=0, step=1563)
        Progress(epoch=1, batch=0, step=1563, examples=0, seconds=0.0, pending='')

    Attributes:
        epoch: Epochs finished.
        batch: Batches done in the current epoch; 0 between two epochs.
        step: Optimizer steps done in all: the only x-axis.
        examples: Training examples seen so far.
        seconds: Wall time of training so far, earlier runs of the same directory included.
        pending: What is still to be done at `step` where a run was left there: `log` (log,
            validate, wake callbacks), `validation` (the same but the log), `end` (the same, and
            what is done because the run ends here), or nothing.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    pending: str = ""

    def state(self) -> dict[str, Any]:
        """Return the record."""
        return asdict(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over the values of another record, by name."""
        for each in fields(self):
            setattr(self, each.name, state[each.name])

    @property
    def current_epoch(self) -> int:
        """The number, from 1, of the epoch at work, or between two epochs of the last one."""
        return self.epoch + 1 if self.batch else max(self.epoch, 1)
