"""A tracker in memory, which fails, hangs and loses answers on request."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

from framework.loggers.destination import Refused
from framework.loggers.journal import Entry, Memory


class FakeTracker:
    """What arrived, and how the tracker behaves.

    Attributes:
        points: Each value that arrived: name, step, value.
        others: The kind and body of each other entry.
        down: Whether it refuses connections.
        lose: How many of the next requests are carried out but not answered.
        answers: Cleared while it hangs.
        deny: The kind of entry that it refuses for good.
        attempts: How often something was sent to it.
    """

    def __init__(self) -> None:
        self.points: list[tuple[str, int, float]] = []
        self.others: list[tuple[str, dict[str, object]]] = []
        self.down, self.lose, self.deny, self.attempts = False, 0, "", 0
        self.answers = threading.Event()
        self.answers.set()
        self.lock = threading.Lock()

    def client(self, memory: Memory) -> Client:
        return Client(self)

    def steps(self, name: str) -> dict[int, float]:
        """The history of a metric; a step that arrived twice is an error."""
        found = [(step, value) for each, step, value in self.points if each == name]
        assert len({step for step, _ in found}) == len(found), found
        return dict(found)


class Client:
    """One process's connection to it.

    Attributes:
        dead: Whether the process was killed.
    """

    def __init__(self, tracker: FakeTracker) -> None:
        self.tracker, self.dead = tracker, False

    def send(self, entries: Sequence[Entry]) -> bool:
        tracker = self.tracker
        self._reach()
        tracker.answers.wait()
        with tracker.lock:
            if self.dead:
                raise ConnectionError("this process is dead")
            if tracker.deny in {entry.kind for entry in entries}:
                raise Refused(f"no {tracker.deny} here")
            for entry in entries:
                if entry.kind == "metrics":
                    values = entry.body["values"].items()
                    tracker.points += [(name, entry.step or 0, value) for name, value in values]
                else:
                    tracker.others.append((entry.kind, entry.body))
            tracker.lose -= 1
            if tracker.lose >= 0:
                raise TimeoutError("no answer")
        return True

    def recorded(self, names: Collection[str]) -> Mapping[str, tuple[int, float]]:
        self._reach()
        with self.tracker.lock:
            points = sorted(self.tracker.points, key=lambda point: point[1])
        return {name: (step, value) for name, step, value in points if name in names}

    def close(self) -> None:
        self._reach()

    def _reach(self) -> None:
        self.tracker.attempts += 1
        if self.tracker.down or self.dead:
            raise ConnectionRefusedError("connection refused")
