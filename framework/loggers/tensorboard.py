"""Writes TensorBoard event files for the runs train, val and test."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from framework.core.paths import local_path
from framework.core.safe_files import check_directory, ours
from framework.logger import Logger
from framework.loggers.event_records import read_records
from framework.loggers.keep_damaged import keep_aside
from framework.loggers.png import as_pixels, png

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

STAGES = ("train", "val", "test")


class TensorBoardLogger(Logger):
    """Write scalars, texts and images to `tensorboard/{train,val,test}` below the run directory.

    `train/loss` and `val/loss` become the tag `loss` of the runs `train` and `val`, so
    TensorBoard shows both in one chart. `val/clean/accuracy` becomes `clean/accuracy` of `val`. A
    name without a stage keeps its full name in `train`. The step is the number of optimizer steps.
    Only stages with values have a directory. Values are written to the file as soon as they are
    logged, so a running TensorBoard shows them.

    A resumed run first drops the events after its step, so that no curve has two branches.

    Example:
        >>> logger = TensorBoardLogger()
        >>> logger.open(Path("runs/a"), step=0)
        >>> logger.log_metrics({"train/loss": 2.5, "val/loss": 2.25}, step=50, epoch=1)
        >>> logger.close()
        >>> sorted(path.name for path in Path("runs/a/tensorboard").iterdir())
        ['train', 'val']

    Args:
        dirname: Directory name relative to the run directory.
    """

    def __init__(self, dirname: str = "tensorboard") -> None:
        self.dirname = str(local_path(dirname, "TensorBoardLogger(dirname=...)"))
        self._dir: Path | None = None
        self._step: int | None = None
        self._writers: dict[str, _EventFile] = {}
        self._last: dict[tuple[str, str], tuple[int, bytes]] = {}

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start or continue the logs in `run_dir`, without the events after `step`.

        Args:
            run_dir: The run directory.
            step: Optimizer steps done so far: 0 for a new run. None: keep every event.
        """
        self.close()
        self._dir, self._step = Path(run_dir) / self.dirname, step
        self._last.clear()
        for folder in (self._dir, *(self._dir / stage for stage in STAGES)):
            check_directory(folder)
        for left in self._dir.glob("*/events.out.kept.*.tmp"):  # of a killed process
            left.unlink()
        for stage in STAGES:
            for path in sorted((self._dir / stage).glob("events.out.tfevents.*")):
                for event in _drop_later_events(path, step):
                    for value in event.summary.value:
                        at = (event.step, value.tensor.SerializeToString())
                        self._last[stage, value.tag] = at

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Write scalars measured at `step`."""
        from tensorboard.plugins.scalar import metadata

        by_stage: dict[str, dict[str, np.float32]] = {}
        with np.errstate(over="ignore"):
            for name, value in metrics.items():
                stage, tag = _place(name)
                by_stage.setdefault(stage, {})[tag] = np.float32(value)
        about = metadata.create_summary_metadata(display_name=None, description=None)
        for stage, values in by_stage.items():
            self._write(stage, values, step, about)

    def log_text(self, name: str, text: str, step: int) -> None:
        """Write a verbatim text, such as the resolved configuration, in the run `train`."""
        from tensorboard.plugins.text import metadata

        # A fence longer than any in the text keeps TensorBoard from rendering it as Markdown.
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
        block = np.array(f"{fence}\n{text}\n{fence}".encode(), dtype=object)
        about = metadata.create_summary_metadata(display_name=None, description=None)
        self._write("train", {name: block}, step, about)

    def log_images(self, name: str, images: Any, step: int) -> None:
        """Write images as PNG, in the run of the stage in `name`.

        Args:
            name: Tag of the images, such as `samples` or `val/reconstructions`.
            images: Array of shape [count, height, width, channels]: uint8, or floats, which are
                clipped to 0..1; 1 (grey), 3 (RGB) or 4 (RGBA) channels.
            step: Optimizer steps done.

        Raises:
            UserError: If `images` is not such an array.
        """
        from tensorboard.plugins.image import metadata

        pixels = as_pixels(name, images)
        _, height, width, _ = pixels.shape
        sizes = [str(width).encode(), str(height).encode()]
        shown = np.array([*sizes, *map(png, pixels)], dtype=object)
        about = metadata.create_summary_metadata(display_name=None, description=None)
        stage, tag = _place(name)
        self._write(stage, {tag: shown}, step, about)

    def forget(self, stage: str) -> None:
        """Remove the run of a stage, such as `val`."""
        if self._dir is None:
            raise RuntimeError("TensorBoardLogger is not open")
        if stage in self._writers:
            self._writers.pop(stage).close()
        for path in (self._dir / stage).glob("events.out.tfevents.*"):
            path.unlink()
        for at in [at for at in self._last if at[0] == stage]:
            del self._last[at]

    def close(self) -> None:
        """Close the event files. It is safe to call this twice."""
        try:
            for writer in self._writers.values():
                writer.close()
        finally:
            self._writers.clear()
            self._dir = None

    def _write(self, stage: str, values: Mapping[str, Any], step: int, metadata: Any) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.util import tensor_util

        if self._dir is None:
            raise RuntimeError("TensorBoardLogger is not open")
        event = event_pb2.Event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            tensor = tensor_util.make_tensor_proto(value)
            at = (step, tensor.SerializeToString())
            # A finished run that is started again measures the same value again.
            if self._last.get((stage, tag)) != at:
                self._last[stage, tag] = at
                event.summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
        if not event.summary.value:
            return
        if stage not in self._writers:
            self._writers[stage] = _EventFile(self._dir / stage, self._step)
        self._writers[stage].write(event)


class _EventFile:
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
        self._records.write(event.SerializeToString())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _place(name: str) -> tuple[str, str]:
    stage, _, tag = name.partition("/")
    return (stage, tag) if stage in STAGES and tag else ("train", name)


def _new_event_file(directory: Path) -> Path:
    """Return a path that sorts after existing files, since TensorBoard reads them in order."""
    names = [path.name for path in directory.glob("events.out.tfevents.*")]
    stamp = int(time.time())
    for name in names:
        digits = name.split(".")[3]
        stamp = max(stamp, int(digits) + 1 if digits.isdecimal() else 0)
    return directory / f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}.v2"


def _drop_later_events(path: Path, step: int | None) -> list[Event]:
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
    if not any(event.HasField("summary") for event in kept):
        path.unlink()
        aside.unlink()
    elif aside.stat().st_size == path.stat().st_size:
        aside.unlink()
    else:
        os.replace(aside, path)
    return kept
