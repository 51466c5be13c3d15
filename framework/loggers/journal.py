"""An append-only file of what is to be sent somewhere, in the order in which it was logged."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from framework.core.safe_files import NotAFile, ours, read_bytes, replacing
from framework.loggers.keep_damaged import keep_aside

_MOST = 2**26  # bytes of a memory file


@dataclass(frozen=True)
class Entry:
    """One thing to send.

    Attributes:
        number: Its number in the journal; later ones have higher numbers.
        kind: What it is, such as `metrics`.
        step: The step that it belongs to. None: it belongs to the run as a whole.
        time: When it was logged, in seconds since 1970.
        body: Its content, as JSON stores it.
        free: Whether it need not wait for a checkpoint of its step.
    """

    number: int
    kind: str
    step: int | None
    time: float
    body: dict[str, Any]
    free: bool = False


@dataclass(frozen=True)
class Place:
    """Where the journal holds an entry, so that memory holds no contents.

    Its `step` is the one whose checkpoint the entry waits for, if any.
    """

    number: int
    step: int | None
    start: int
    size: int


class Journal:
    """A file of entries: one line of JSON each, passed to the operating system at once.

    So a kill loses none, and a power failure none of those before the last `sync`.

    Example:
        >>> journal = Journal(Path("runs/a/trackers/mlflow/outbox.jsonl"))
        >>> journal.open(lambda entry: True)
        []
        >>> place = journal.append("metrics", {"values": {"train/loss": 2.5}}, step=50)
        >>> journal.read(place).body
        {'values': {'train/loss': 2.5}}

    Args:
        path: The file; its directory exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0
        self._file: BinaryIO | None = None
        self._size = 0

    def open(self, wanted: Callable[[Entry], bool]) -> list[Place]:
        """Open the file, and drop the entries that are not wanted any more.

        A last line that a kill tore is dropped too.

        Returns:
            The places of the others.
        """
        entries, damaged = self._entries()
        if damaged:
            keep_aside(self.path, f"the {len(entries)} entries that can be read")
        self.last = max([self.last, *(entry.number for entry in entries)])
        places = []
        with replacing(self.path) as out:
            for entry in filter(wanted, entries):
                start = out.tell()
                size = out.write(_line(entry))
                places.append(_place(entry, start, size))
            out.flush()
            os.fsync(out.fileno())
        self._file = open(self.path, "r+b", buffering=0, opener=ours)  # noqa: SIM115
        self._size = self._file.seek(0, os.SEEK_END)
        return places

    def append(
        self, kind: str, body: Mapping[str, Any], step: int | None, *, free: bool = False
    ) -> Place:
        """Write an entry."""
        assert self._file is not None
        entry = Entry(self.last + 1, kind, step, time.time(), dict(body), free)
        line = _line(entry)
        self._file.write(line)
        self.last += 1
        place = _place(entry, self._size, len(line))
        self._size += len(line)
        return place

    def read(self, place: Place) -> Entry:
        """Return the entry at a place."""
        assert self._file is not None
        return Entry(**json.loads(os.pread(self._file.fileno(), place.size, place.start)))

    def sync(self) -> None:
        """Return when everything is on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _entries(self) -> tuple[list[Entry], bool]:
        try:
            with open(self.path, "rb", opener=ours) as file:
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return [], False
        entries, damaged = [], False
        for line in lines:
            try:
                entries.append(Entry(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                damaged = True
        return entries, damaged


class Memory:
    """What a tracker must remember of a run from one process to the next: a small JSON file.

    Example:
        >>> memory = Memory(Path("runs/a/trackers/mlflow/sent.json"))
        >>> memory.update(run_id="5d3f")
        >>> Memory(memory.path).values
        {'run_id': '5d3f'}

    Args:
        path: The file; its directory exists.

    Attributes:
        values: What is remembered.
        released: Whether another object writes the file now, so that this one no longer may.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.released = path, False
        self._lock = threading.Lock()
        self.values: dict[str, Any] = {}
        try:
            found = json.loads(read_bytes(path, _MOST))
            self.values = found if isinstance(found, dict) else {}
        except NotAFile:
            raise
        except (OSError, ValueError, RecursionError):
            pass  # none yet, or damaged: the tracker is asked what it has

    def update(self, **values: Any) -> None:
        """Remember values, on the disk when this returns."""
        with self._lock:
            self.values.update(values)
            if not self.released:
                with replacing(self.path) as file:
                    file.write(json.dumps(self.values).encode())
                    file.flush()
                    os.fsync(file.fileno())  # without the id, another run would begin

    def release(self) -> None:
        """Leave the file to another object."""
        with self._lock:
            self.released = True


def _place(entry: Entry, start: int, size: int) -> Place:
    return Place(entry.number, None if entry.free else entry.step, start, size)


def _line(entry: Entry) -> bytes:
    return json.dumps(vars(entry), separators=(",", ":")).encode() + b"\n"
