"""How each job of a sweep stands: on disk, whoever runs it."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.core.lock import is_locked
from framework.core.safe_files import ours, read_bytes
from framework.core.statuses import ENDED
from framework.run.result import read_metrics
from framework.sweep.record import JobEntry, SweepRecord, wait_for

_MAX_BYTES = 2**24
# Seconds to wait for a job that another process has not finished saving.
PATIENCE = 60.0
KILLED = 128 + signal.SIGKILL.value if hasattr(signal, "SIGKILL") else 137


@dataclass(frozen=True)
class Standing:
    """How a job of a sweep stands.

    Attributes:
        job: The job.
        status: `not run`, `running`, `killed`, or how it ended: `completed`, `stopped`, `pruned`,
            `interrupted`, `failed` or `refused`.
        code: Its exit code; 0 while there is none.
        metrics: The latest value of every metric, by full name.
        run_dir: Where its files are, or None if it left none.
        error: The reason for a failure, in one line.
        seconds: How long it took, from its start to its end.
    """

    job: JobEntry
    status: str = "not run"
    code: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_dir: Path | None = None
    error: str = ""
    seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether it has ended as it should."""
        return self.code == 0 and self.status in ENDED


class Claim:
    """The right to run a job, and to write how it stands. `claimed` gives it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._about: dict[str, Any] = {
            "status": "running",
            "code": 0,
            "process": os.getpid(),
            "host": socket.gethostname(),
            "began": time.time(),
        }

    def begin(self) -> None:
        """Note that the job runs; if it is killed, this is what stays."""
        self._put(self._about)

    def end(
        self,
        status: str,
        code: int,
        metrics: Mapping[str, float] | None = None,
        run_dir: Path | None = None,
        error: str = "",
    ) -> None:
        """Note how the job ended."""
        finite = {k: v for k, v in (metrics or {}).items() if math.isfinite(v)}
        place = str(run_dir) if run_dir else None
        self._put(
            {
                **self._about,
                "status": status,
                "code": code,
                "error": error,
                "ended": time.time(),
                "run_dir": place,
                "metrics": finite,
            }
        )

    def _put(self, about: Mapping[str, Any]) -> None:
        # In place, as the lock belongs to the file. What a kill leaves half-written is a kill.
        text = json.dumps(about, indent=2).encode() + b"\n"
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.ftruncate(self._handle, 0)
        os.write(self._handle, text)


@contextmanager
def claimed(record: SweepRecord, job: JobEntry, patience: float = PATIENCE) -> Iterator[Claim]:
    """Keep a job for this process while the body runs; nobody else can run it.

    Raises:
        UserError: Another process runs it, and has not ended after `patience` seconds.
    """
    place = record.place_of(job)
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = ours(place, os.O_RDWR | os.O_CREAT)
    try:
        wait_for(handle, patience, record.path / job.directory)
        yield Claim(handle)
    finally:
        os.close(handle)


def standing_of(record: SweepRecord, job: JobEntry, *, mine: bool = False) -> Standing:
    """Return how a job stands, from what it left on disk.

    Args:
        record: The sweep's record.
        job: The job.
        mine: This process has claimed it, and asks how it stood before.
    """
    place = record.place_of(job)
    try:
        about = json.loads(read_bytes(place, _MAX_BYTES) or b"null")
    except FileNotFoundError:
        return Standing(job)
    except (OSError, ValueError, RecursionError):
        about = None
    about = about if isinstance(about, dict) else {}
    if not mine and is_locked(place):
        return Standing(job, "running", 0, _metrics(about, record.path / job.directory))
    run_dir = Path(str(about.get("run_dir") or record.path / job.directory))
    metrics = _metrics(about, run_dir)
    there = run_dir if run_dir.is_dir() else None
    status, code = about.get("status"), about.get("code")
    if not isinstance(status, str) or not isinstance(code, int) or status == "running":
        return Standing(job, "killed", KILLED, metrics, there, "It was killed.")
    seconds = float(about.get("ended", 0.0)) - float(about.get("began", 0.0))
    return Standing(job, status, code, metrics, there, str(about.get("error", "")), seconds)


def standings(record: SweepRecord) -> list[Standing]:
    """Return how all jobs of a sweep stand, by number."""
    jobs = sorted(record.read().jobs, key=lambda job: job.number)
    return [standing_of(record, job) for job in jobs]


def _metrics(about: Mapping[str, Any], run_dir: Path) -> dict[str, float]:
    """Return what a run's result says; a run that wrote none has told its own claim."""
    found = read_metrics(run_dir / "result.json")
    if not found and isinstance(told := about.get("metrics"), Mapping):
        found = {str(k): float(v) for k, v in told.items() if isinstance(v, (int, float))}
    return found
