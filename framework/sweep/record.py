"""`sweep.json`: what a sweep is, and which jobs it has."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from framework.core.lock import locked
from framework.core.safe_files import ours, read_bytes, replacing
from framework.errors import UserError
from framework.sweep.plan import job_key, job_name, keys_of, varied_by

FILE, FOLDER = "sweep.json", ".sweep"
_FORMAT = 2
_MAX_BYTES = 2**26
_PATIENCE = 60.0  # seconds; a job holds the record for milliseconds


@dataclass(frozen=True)
class Objective:
    """What a sweep is ranked by.

    Attributes:
        metric: The full name of a metric, such as `val/auc`.
        direction: `min` or `max`: which is better.
    """

    metric: str
    direction: str


@dataclass(frozen=True)
class JobEntry:
    """One job of a sweep.

    Attributes:
        number: A label, given once.
        key: What identifies it: a hash of what it varies.
        directory: The name of its run directory.
        overrides: What it varies.
        round: The last start of the sweep that asked for it.
    """

    number: int
    key: str
    directory: str
    overrides: tuple[str, ...]
    round: int = 0


@dataclass(frozen=True)
class Content:
    """What `sweep.json` says.

    Attributes:
        fixed: The overrides that are the same for all jobs.
        varied: The keys in which jobs differ.
        objectives: What the jobs are ranked by, if anything.
        round: How often the sweep was started.
        jobs: Its jobs by number.
    """

    fixed: tuple[str, ...] = ()
    varied: tuple[str, ...] = ()
    objectives: tuple[Objective, ...] = ()
    round: int = 0
    jobs: tuple[JobEntry, ...] = ()


class SweepRecord:
    """The record of a sweep in its directory, which several processes may read and change.

    Example:
        >>> record = SweepRecord(Path("runs/s"))
        >>> record.begin(["task=mine"], [("seed=1",), ("seed=2",)])
        >>> record.register(["task=mine", "seed=2"]).directory
        '1_seed=2'

    Args:
        path: The sweep directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Content:
        """Return what the record says; nothing if there is none yet.

        Raises:
            UserError: It cannot be read, or another version has written it.
        """
        place = self.path / FILE
        try:
            found = json.loads(read_bytes(place, _MAX_BYTES))
            if found["format"] != _FORMAT:
                raise ValueError(f"it has format {found['format']}, not {_FORMAT}")
            objectives = tuple(Objective(**each) for each in found["objectives"])
            jobs = [
                JobEntry(**{**job, "overrides": tuple(job["overrides"])}) for job in found["jobs"]
            ]
            if any(Path(job.directory).name != job.directory for job in jobs):
                raise ValueError("a job's directory is a path")
            return Content(
                tuple(found["fixed"]),
                tuple(found["varied"]),
                objectives,
                found["round"],
                tuple(jobs),
            )
        except FileNotFoundError:
            return Content()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"The sweep's record cannot be read: {error}",
                where=str(place),
                fix="Put back a copy of it, or give another sweep_dir= to start a new sweep.",
            ) from error

    def begin(
        self,
        fixed: Sequence[str],
        planned: Sequence[Sequence[str]],
        objectives: Sequence[Objective] = (),
    ) -> None:
        """Start the sweep, or start it again: note what it is, and the jobs that are known so far.

        A key that all jobs shared until now and that varies from now on becomes part of what the
        earlier jobs vary, so that they are recognised.

        Args:
            fixed: The overrides with one value for all jobs.
            planned: What each job varies, as far as that is known.
            objectives: What to rank by.
        """
        with self._changing() as before:
            varied = dict.fromkeys([*before.varied, *(k for job in planned for k in _ordered(job))])
            jobs = []
            new = set(varied) - set(before.varied)
            once_fixed = [o for o in before.fixed if keys_of([o]) & new]
            for job in before.jobs:
                added = [o for o in once_fixed if not keys_of([o]) & keys_of(job.overrides)]
                overrides = (*job.overrides, *added)
                jobs.append(replace(job, overrides=overrides, key=job_key(overrides)))
            always = tuple(o for o in fixed if not keys_of([o]) & varied.keys())
            content = Content(
                always, tuple(varied), tuple(objectives), before.round + 1, tuple(jobs)
            )
            single = [o for o in fixed if keys_of([o]) & varied.keys()]
            for each in planned:
                content, _ = _with_job(content, (*each, *single))
            self._write(content)

    def register(self, overrides: Sequence[str]) -> JobEntry:
        """Return the entry of the job with these overrides; make one if it is new."""
        with self._changing() as before:
            varied = varied_by(overrides, before.fixed)
            content, job = _with_job(before, varied)
            if content != before:
                self._write(content)
            return job

    def restore(self, content: Content) -> None:
        """Write what the record said before a start that came to nothing."""
        with self._changing():
            if content == Content():
                (self.path / FILE).unlink(missing_ok=True)
            else:
                self._write(content)

    @contextmanager
    def running(self, *, together: bool = False) -> Iterator[None]:
        """Keep other processes from running this sweep while the body runs.

        Args:
            together: Let others run it that also want it together with others.

        Raises:
            UserError: Another process runs it.
        """
        handle = ours(self._folder() / "running", os.O_RDWR | os.O_CREAT)
        try:
            if not locked(handle, shared=together):
                owner = os.read(handle, 32).decode(errors="replace").strip()
                raise UserError(
                    f"Another process{f' ({owner})' if owner else ''} runs this sweep",
                    where=str(self.path),
                    fix="Wait for it to end, or give another sweep_dir=.",
                )
            os.pwrite(handle, f"process {os.getpid()}\n".ljust(32).encode(), 0)
            yield
        finally:
            os.close(handle)

    def place_of(self, job: JobEntry) -> Path:
        """Return the file that says how a job stands."""
        return self.path / FOLDER / f"{job.directory}.json"

    def _folder(self) -> Path:
        folder = self.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _changing(self) -> Iterator[Content]:
        handle = ours(self._folder() / "lock", os.O_RDWR | os.O_CREAT)
        try:
            wait_for(handle, _PATIENCE, self.path)
            yield self.read()
        finally:
            os.close(handle)

    def _write(self, content: Content) -> None:
        text = json.dumps({"format": _FORMAT, **asdict(content)}, indent=2)
        with replacing(self.path / FILE) as file:
            file.write(f"{text}\n".encode())


def wait_for(handle: int, seconds: float, where: Path) -> None:
    """Lock an open file; wait if another process has locked it.

    Raises:
        UserError: It is still locked after so many seconds.
    """
    until = time.monotonic() + seconds
    while not locked(handle):
        if time.monotonic() > until:
            raise UserError(
                "Another process is at work on it",
                where=str(where),
                fix="Wait for it to end, and run the same command again.",
            )
        time.sleep(0.02)


def _ordered(job: Sequence[str]) -> list[str]:
    return [key for override in job for key in keys_of([override])]


def _with_job(content: Content, varied: Sequence[str]) -> tuple[Content, JobEntry]:
    """Return the content with a job that this round asks for, and the job's entry."""
    key = job_key(varied)
    for job in content.jobs:
        if job.key == key:
            asked = replace(job, round=content.round)
            jobs = tuple(asked if each is job else each for each in content.jobs)
            return replace(content, jobs=jobs), asked
    number = max((job.number for job in content.jobs), default=-1) + 1
    made = JobEntry(number, key, job_name(number, varied), tuple(varied), content.round)
    keys = tuple(dict.fromkeys([*content.varied, *_ordered(varied)]))
    return replace(content, jobs=(*content.jobs, made), varied=keys), made
