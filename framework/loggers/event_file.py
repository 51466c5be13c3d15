"""TensorBoard's event files: writes one, and drops the later events from one."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from framework.core.safe_files import ours
from framework.loggers.event_records import read_records
from framework.loggers.keep_damaged import keep_aside

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

EVENT_FILES = "events.out.tfevents.*"


class EventFile:
    """An event file of a run that starts or resumes at `step`, flushed after every event.

    It writes TensorBoard's record format to a plain file. That costs a tenth of `tf.summary`,
    needs no thread, and raises at once if the disk is full.
    """

    def __init__(self, directory: Path, step: int | None) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        directory.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(_new_event_file(directory), "xb", opener=ours)  # noqa: SIM115
        self._records = RecordWriter(self._file)
        now = time.time()
        self.write(event_pb2.Event(wall_time=now, file_version="brain.Event:2"))
        if step is not None:
            # A running TensorBoard then discards dropped events that it has read already.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self.write(event_pb2.Event(wall_time=now, step=step + 1, session_log=start))

    def write(self, event: Event) -> None:
        """Write an event through to the file."""
        self._records.write(event.SerializeToString())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def drop_later_events(path: Path, step: int | None) -> list[Event]:
    """Drop events after `step` and an incomplete last one from a file; return the others.

    A file without events to drop is not rewritten; a file without remaining events is removed.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    found, damaged = read_records(path)
    aside = path.with_name(f"{path.name.replace('tfevents', 'kept')}.tmp")
    kept: list[Event] = []
    with open(aside, "wb", opener=ours) as file:
        records = RecordWriter(file)
        for record in found:
            try:
                event = event_pb2.Event.FromString(record)
            except DecodeError:
                damaged = True
                continue
            if step is None or event.step <= step:
                kept.append(event)
                records.write(record)
        file.flush()
        os.fsync(file.fileno())
    if damaged:
        keep_aside(path, f"the {len(kept)} events that can be read")
    if not any(event.HasField("summary") or event.HasField("graph_def") for event in kept):
        path.unlink()
        aside.unlink()
    elif aside.stat().st_size == path.stat().st_size:
        aside.unlink()
    else:
        os.replace(aside, path)
    return kept


def _new_event_file(directory: Path) -> Path:
    """Return a path that sorts after existing files, since TensorBoard reads them in order."""
    names = [path.name for path in directory.glob("events.out.tfevents.*")]
    stamp = int(time.time())
    for name in names:
        digits = name.split(".")[3]
        stamp = max(stamp, int(digits) + 1 if digits.isdecimal() else 0)
    return directory / f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}.v2"
