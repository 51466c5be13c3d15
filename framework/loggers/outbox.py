"""Sends what a run logs to a server that may be slow or down, without the run waiting for it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from framework.loggers.destination import Destination, Refused
from framework.loggers.journal import Entry, Journal, Memory, Place

_log = logging.getLogger("framework")

_MOST = 200  # entries sent at once
_LONGEST_PAUSE = 60.0  # seconds between two attempts


class Outbox:
    """Keeps entries in a journal in the run directory, and sends them from a thread.

    A tracker cannot take back what it received. So an entry waits until a checkpoint of its step,
    or of a later one, is on the disk: whatever happens, the run continues from there, and does not
    measure the value again. `open` drops the entries after the step from which the run continues.

    What was sent is noted in a file beside the journal. If a process is killed between sending and
    noting, or an answer is lost, the destination is asked for what it has before more is sent, so
    that no value arrives twice.

    Example:
        >>> outbox = Outbox(Path("runs/a/trackers/mlflow"), "MLflow", connect)
        >>> outbox.open(step=0)
        >>> outbox.add("metrics", {"values": {"train/loss": 2.5}}, step=50)
        >>> outbox.release(50)
        >>> outbox.close(timeout=10)
        True

    Args:
        directory: Where the journal is; created if missing.
        name: The tracker's name, for messages.
        connect: Returns the destination, without waiting for it.
        after: An earlier outbox of the directory, whose last attempt may still be under way.
        pause: Seconds between two batches, and before the second attempt.

    Attributes:
        memory: What is remembered of the run from one process to the next.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        connect: Callable[[Memory], Destination],
        after: Outbox | None = None,
        pause: float = 1.0,
    ) -> None:
        self._name, self._pause, self._after, self._connect = name, pause, after, connect
        self._warned = False
        if after is not None:
            after.memory.release()
            self._warned = after._warned
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.memory: Memory = Memory(directory / "sent.json")
        self._journal = Journal(directory / "outbox.jsonl")
        self._changed = threading.Condition()
        self._ready: deque[Place] = deque()
        self._held: deque[Place] = deque()
        self._under_way: dict[int, Place] = {}
        # The last step and value of each metric that was sent, and whether another may replace it.
        self._marks: dict[str, list[Any]] = {}
        self._dropped: set[int] = set()  # not to be tried again if sending them fails
        self._checked: set[str] = set()  # metrics whose mark is what the destination has
        self._cursor, self._beyond, self._durable = 0, set[int](), 0
        self._free = self._closing = self._over = self._unsynced = self._new_run = False
        self._thread: threading.Thread | None = None

    # ---- for the run; of these, only `close` ever waits for the destination

    def open(self, step: int | None) -> None:
        """Start sending; drop what an earlier process logged after `step` (None: nothing)."""
        kept = self.memory.values
        cursor, beyond = int(kept.get("cursor", 0)), set(kept.get("beyond", ()))
        self._journal.last = max([cursor, *beyond])
        self._marks = {name: list(mark) for name, mark in kept.get("marks", {}).items()}
        last = max((mark[0] for mark in self._marks.values()), default=0)
        anew = step == 0 and last > 0  # another run in the same directory
        if anew:
            self.memory.values, self._marks = {}, {}
        elif step is not None and step < last - 1:  # at `last`, a run measures its end again
            _log.warning(
                "the run continues at step %s, but %s has values up to step %s: those stay",
                f"{step:,}",
                self._name,
                f"{last:,}",
            )

        self._new_run = not self.memory.values

        def wanted(entry: Entry) -> bool:
            sent = entry.number <= cursor or entry.number in beyond
            return not (sent or anew or _later(entry.step, step))

        places = self._journal.open(wanted)
        # Without a step, this is an evaluation, of weights that are on the disk.
        self._free = step is None
        self._durable = int(kept.get("durable", 0)) if step is None else step
        for place in places:
            (self._held if _later(place.step, self._durable) else self._ready).append(place)
        left = {place.number for place in places}
        self._cursor = min(left, default=self._journal.last + 1) - 1
        self._beyond = set(range(self._cursor + 1, self._journal.last + 1)) - left
        self._note()
        self._thread = threading.Thread(target=self._work, name=f"to {self._name}", daemon=True)
        self._thread.start()

    def add(self, kind: str, body: Mapping[str, Any], step: int | None = None) -> None:
        """Keep an entry, to be sent once it may."""
        with self._changed:
            place = self._journal.append(kind, body, step, free=self._free)
            if _later(place.step, self._durable):
                self._held.append(place)
            else:
                self._ready.append(place)
                self._changed.notify()

    def release(self, step: int | None) -> None:
        """Let entries be sent up to `step`, of which a checkpoint is on the disk.

        Args:
            step: Optimizer steps done. None: the run has ended, and nothing is measured again.
        """
        with self._changed:
            if step is None and self._free:
                return  # an evaluation does not end the run
            latest = max((place.step or 0 for place in self._held), default=0)
            self._durable = max(self._durable, latest if step is None else step)
            held, self._held = self._held, deque()
            for place in held:
                (self._held if _later(place.step, self._durable) else self._ready).append(place)
            self._unsynced = True
            self._changed.notify()

    def forget(self, stage: str) -> None:
        """Drop the values of a stage that are not sent; another may replace one that is."""

        def forgotten(place: Place) -> bool:
            entry = self._journal.read(place)
            names = entry.body["values"] if entry.kind == "metrics" else ()
            return bool(names) and all(name.startswith(f"{stage}/") for name in names)

        with self._changed:
            for waiting in (self._ready, self._held):
                for place in [place for place in waiting if forgotten(place)]:
                    waiting.remove(place)
                    self._settle(place)
            under_way = self._under_way.values()
            self._dropped |= {place.number for place in under_way if forgotten(place)}
            for name, mark in self._marks.items():
                mark[2] = mark[2] or name.startswith(f"{stage}/")

    def close(self, timeout: float) -> bool:
        """Send what may be sent, but wait no longer than `timeout` seconds.

        If the destination could not be reached at all, it tries once more and does not wait.

        Returns:
            Whether everything that may be sent has arrived.
        """
        if self._thread is None:
            return True
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self._over = True
            self._changed.notify()
            left = len(self._ready) + len(self._under_way)
        if left or self._thread.is_alive():
            _log.log(
                logging.INFO if self._warned else logging.WARNING,
                "%s has not received everything yet: the same command sends the rest, from %s",
                self._name,
                self._directory,
            )
            return False
        return True

    # ---- in the thread

    def _work(self) -> None:
        try:
            after, self._after = self._after, None
            if after is not None and after._thread is not None:
                after._thread.join()
            self._send_all(self._connect(self.memory))
        except Exception as error:  # such as a full disk; nothing is lost that was not already
            self._warn(error)
        finally:
            with self._changed:
                self._journal.close()

    def _send_all(self, destination: Destination) -> None:
        pause, failed, reached = self._pause, False, False
        while places := self._next():
            last_attempt = self._closing
            left = self._attempt(destination, places)
            with self._changed:
                for place in reversed(left):
                    del self._under_way[place.number]
                    if place.number in self._dropped:
                        self._settle(place)
                    else:
                        self._ready.appendleft(place)
                if left and (self._over or (last_attempt and not reached)):
                    return
                if failed and not left:
                    _log.info("%s can be reached again", self._name)
                failed, reached = bool(left), reached or not left
                pause = min(2 * pause, _LONGEST_PAUSE) if left else self._pause
                if not self._closing:
                    self._changed.wait_for(lambda: self._closing, pause)
                elif left:
                    self._changed.wait_for(lambda: self._over, self._pause)
        destination.close()
        with self._changed:
            for place in list(self._under_way.values()):
                self._settle(place)
        self._note()

    def _next(self) -> list[Place]:
        """Wait for something to send; an empty list if there will be nothing more."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._closing or self._unsynced)
                unsynced, self._unsynced = self._unsynced, False
                found = [self._ready.popleft() for _ in range(min(_MOST, len(self._ready)))]
                self._under_way |= {place.number: place for place in found}
                closing = self._closing
            if unsynced:
                self._journal.sync()
                self._note()
            if found or closing:
                return found

    def _attempt(self, destination: Destination, places: Sequence[Place]) -> Sequence[Place]:
        """Send the entries at some places; return the places that must be tried again."""
        with self._changed:
            entries = [self._journal.read(place) for place in places]
        arrived = True
        try:
            names = {name for entry in entries for name in entry.body.get("values", ())}
            self._check(destination, names)
            new = self._without_known(entries)
            arrived = destination.send(new) if new else True
        except Refused as error:
            if len(places) > 1:  # one of them is to blame
                for at in range(len(places)):
                    if self._attempt(destination, places[at : at + 1]):
                        return places[at:]
                return []
            _log.warning("%s refuses %s: %s", self._name, entries[0].kind, _one_line(error))
            new = []
        except Exception as error:
            self._new_run = False
            self._checked.clear()
            self._warn(error)
            return places
        for entry in new:
            for name, value in entry.body.get("values", {}).items():
                self._marks[name] = [entry.step or 0, value, False]
        if arrived:
            with self._changed:
                for place in places:
                    self._settle(place)
            self._note()
        return []

    def _check(self, destination: Destination, names: set[str]) -> None:
        """Learn what the destination has of metrics that may have been sent unnoted."""
        unsure = set() if self._new_run else names - self._checked
        if unsure:
            for name, (step, value) in destination.recorded(unsure).items():
                mark = self._marks.setdefault(name, [-1, value, False])
                if step > mark[0]:
                    mark[:2] = step, value
        self._checked |= unsure

    def _without_known(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries without the values that the destination has."""
        new = []
        for entry in entries:
            if entry.kind == "metrics":
                values = entry.body["values"]
                wanted = {n: v for n, v in values.items() if self._is_new(n, entry.step or 0, v)}
                entry = replace(entry, body={**entry.body, "values": wanted})
                if not wanted:
                    continue
            new.append(entry)
        return new

    def _is_new(self, name: str, step: int, value: float) -> bool:
        last, known, replaceable = self._marks.get(name, (-1, 0.0, False))
        return step > last or (replaceable and (step, repr(value)) != (last, repr(known)))

    def _settle(self, place: Place) -> None:
        self._under_way.pop(place.number, None)
        self._beyond.add(place.number)
        while self._cursor + 1 in self._beyond:
            self._cursor += 1
            self._beyond.remove(self._cursor)

    def _note(self) -> None:
        with self._changed:
            about: dict[str, Any] = {"cursor": self._cursor, "beyond": sorted(self._beyond)}
            if not self._under_way:  # else some marks are of what may not have arrived
                about["marks"] = {name: list(mark) for name, mark in self._marks.items()}
            about["durable"] = self._durable
        self.memory.update(**about)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s cannot be reached: %s. The run goes on; what it logs is kept in %s and sent "
                "later",
                self._name,
                _one_line(error),
                self._directory,
            )


def _later(step: int | None, than: int | None) -> bool:
    return step is not None and than is not None and step > than


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."
