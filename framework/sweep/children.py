"""Jobs in processes of their own, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from framework.core.signals import ending_signals
from framework.errors import UserError
from framework.sweep.child import PRELOAD, Surroundings, run_child
from framework.sweep.claim import claimed, standing_of
from framework.sweep.display import SweepDisplay
from framework.sweep.record import JobEntry, SweepRecord

Work = tuple[JobEntry, Callable[..., Any], tuple[Any, ...]]
"""A job, what to call in its process, and with what."""

_REFRESH = 0.5  # seconds
_CHUNK = 65536


@dataclass
class _Child:
    job: JobEntry
    slot: int
    process: BaseProcess
    pipes: dict[int, bool]  # descriptor: whether it is of errors
    rest: dict[int, bytes] = field(default_factory=dict)


class Children:
    """Run jobs in processes of their own, so many at a time.

    A fork server that has imported TensorFlow, and not started it, makes the processes, so that a
    job begins within a fraction of a second. Whatever happens to one of them harms no other. A
    signal that asks this process to end is passed on to them once; a second one kills them.

    Args:
        record: The sweep's record.
        most: How many run at a time.
        display: Shows what they print.
    """

    def __init__(self, record: SweepRecord, most: int, display: SweepDisplay) -> None:
        self._record, self._most, self._display = record, most, display
        self._running: list[_Child] = []
        self._received: list[int] = []
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the server imports TensorFlow
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOAD))
        with _no_stderr():
            ensure_running()

    def run(self, take: Callable[[], Work | None], ended: Callable[[], None]) -> None:
        """Run jobs to their ends.

        Args:
            take: Returns the next job, or None if there is none now; asked whenever one can start.
            ended: Called when a job has ended, unless this process was asked to end.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the jobs have saved and ended.
            SystemExit: SIGTERM arrived; the same.
        """
        with self._signals():
            try:
                while self._fill(take):
                    for child in self._attend():
                        self._note_end(child)
                        if not self._received:
                            ended()
            finally:
                self._kill()
        if self._received and self._received[0] == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received:
            raise SystemExit(128 + self._received[0])

    def _fill(self, take: Callable[[], Work | None]) -> bool:
        """Start jobs while there is room for them; return whether any runs."""
        while len(self._running) < self._most and not self._received and (work := take()):
            self._start(*work)
        return bool(self._running)

    def _start(self, job: JobEntry, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        taken = {child.slot for child in self._running}
        slot = next(n for n in range(self._most) if n not in taken)
        (out, out_there), (err, err_there) = (self._context.Pipe(duplex=False) for _ in range(2))
        around = Surroundings.here(slot, self._most)
        process = self._context.Process(
            target=run_child,
            args=(around, out_there, err_there, work, arguments),
            name=f"job {job.number}",
        )
        self._display.started(job)
        process.start()
        out_there.close()
        err_there.close()
        pipes = {_detached(out): False, _detached(err): True}
        self._running.append(_Child(job, slot, process, pipes))
        for number in self._received:  # while it was started
            self._send(self._running[-1], number)

    def _attend(self) -> list[_Child]:
        """Pass on what the children print; return those that have ended."""
        pipes = {number: child for child in self._running for number in child.pipes}
        ready = wait([*pipes, *(child.process.sentinel for child in self._running)], _REFRESH)
        for number in ready:
            if number in pipes:
                self._read(pipes[number], number)
        ended = [child for child in self._running if not child.process.is_alive()]
        for child in ended:
            child.process.join()
            for number in list(child.pipes):
                os.set_blocking(number, False)
                with suppress(BlockingIOError):  # a process of the job's own still holds the pipe
                    while number in child.pipes:
                        self._read(child, number)
                self._close(child, number)
            self._running.remove(child)
        return ended

    def _read(self, child: _Child, number: int) -> None:
        chunk = os.read(number, _CHUNK)
        *lines, rest = (child.rest.pop(number, b"") + chunk).split(b"\n")
        if not chunk and rest:
            lines, rest = [*lines, rest], b""
        if rest:
            child.rest[number] = rest
        for line in lines:
            text = line.decode(errors="backslashreplace").rsplit("\r", 1)[-1]
            self._display.say(child.job.number, text, error=child.pipes[number])
        if not chunk:
            self._close(child, number)

    def _close(self, child: _Child, number: int) -> None:
        if child.pipes.pop(number, None) is not None:
            os.close(number)

    def _note_end(self, child: _Child) -> None:
        """Write how a job ended that could not do so itself."""
        code = child.process.exitcode or 0
        found = standing_of(self._record, child.job)
        if found.status == "not run" and self._received:
            pass  # it was stopped before it had begun
        elif found.status in ("killed", "not run", "running"):
            with suppress(UserError), claimed(self._record, child.job, patience=5) as claim:
                claim.begin()
                if code < 0:
                    name = signal.Signals(-code).name
                    claim.end("killed", 128 - code, found.metrics, error=f"It was killed: {name}.")
                else:
                    claim.end("failed", code or 1, error="Its process ended before its time.")
            found = standing_of(self._record, child.job)
        self._display.ended(found)

    def _kill(self) -> None:
        """Leave no child behind, whatever has happened here."""
        for child in self._running:
            child.process.kill()
        for child in self._running:
            child.process.join()
            for number in list(child.pipes):
                self._close(child, number)
        self._running.clear()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) for number in ending_signals()}
        for number in former:
            signal.signal(number, self._pass_on)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._received.append(number)
        for child in self._running:
            self._send(child, number if len(self._received) == 1 else signal.SIGKILL)

    def _send(self, child: _Child, number: int) -> None:
        closed = getattr(signal, "SIGHUP", None)
        if child.process.pid is not None:
            with suppress(OSError):
                os.kill(child.process.pid, signal.SIGTERM if number == closed else number)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Let a process that the body starts print nothing of what TensorFlow says when imported."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _detached(pipe: Connection) -> int:
    number = os.dup(pipe.fileno())
    pipe.close()
    return number
