"""What an outbox needs of a tracker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from framework.loggers.journal import Entry


class Refused(Exception):
    """The destination will never accept an entry, so that trying again is of no use."""


class Destination(Protocol):
    """Where an `Outbox` sends to. One thread calls it; any exception means: try again later."""

    def send(self, entries: Sequence[Entry]) -> bool:
        """Send entries, in this order.

        Returns:
            Whether they have arrived. False: they have once `close` returns.

        Raises:
            Refused: It will never accept them.
        """

    def recorded(self, names: Collection[str]) -> Mapping[str, tuple[int, float]]:
        """Return the last step that has arrived, and its value, by metric name."""

    def close(self) -> None:
        """Finish, and make sure that everything has arrived."""
