"""Processes that read batches ahead. Imports no TensorFlow, which each of them would load."""

from __future__ import annotations

import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from queue import SimpleQueue
from typing import Any

from framework.errors import UserError

AHEAD = 2  # batches that each process has been asked for
Read = Callable[[Sequence[int]], Any]


class ReadingProcesses:
    """Read batches in processes of their own, in turn, and return them in order.

    They start with the first batch, and end with the object or with this process, however it ends.

    Example:
        >>> processes = ReadingProcesses(RowReader(rows), 2, where="data.train")
        >>> take = processes.in_order(lambda index: [2 * index, 2 * index + 1], 0, 10)
        >>> take(), take()               # batches 0 and 1

    Args:
        read: A function of a list of row numbers that can be pickled.
        count: The number of processes.
        where: The set, for messages.
    """

    def __init__(self, read: Read, count: int, *, where: str) -> None:
        self._read, self.count, self._where = read, count, f"{where}, data.workers={count}"
        self._ends: list[Connection] = []
        self._asked: list[int] = []  # batches that have not been received, by process
        self._order, self._lock = 0, threading.Lock()

    def in_order(
        self, rows_of: Callable[[int], Sequence[int]], start: int, stop: int
    ) -> Callable[[], Any]:
        """Return a function that returns the next of the batches [start, stop) in every call.

        It returns None once another order is read.
        """
        with self._lock:
            self._order = order = self._order + 1
            self._drop_unread()
        asked = taken = start

        def take() -> Any:
            nonlocal asked, taken
            with self._lock:
                if order != self._order:
                    return None
                if not self._ends:
                    self._start()
                while asked < min(stop, taken + AHEAD * self.count):
                    self._ask(asked % self.count, rows_of(asked))
                    asked += 1
                taken += 1
                return self._answer((taken - 1) % self.count)

        return take

    def _start(self) -> None:
        context = get_context("spawn")  # TensorFlow's threads do not survive a fork
        Finalize(self, _close, [self._ends], exitpriority=1)  # before multiprocessing waits
        for _ in range(self.count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._read), daemon=True)
            try:
                with _undisturbed():
                    process.start()
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                raise UserError(
                    f"the set cannot be sent to another process: {error}",
                    where=self._where,
                    fix="Open files and connections in its __getitem__, and define its class in a "
                    "module; or read it in this process: data.workers=0.",
                ) from None
            theirs.close()  # so that this end notices if the process dies
            self._ends.append(ours)
            self._asked.append(0)

    def _ask(self, process: int, numbers: Sequence[int]) -> None:
        with self._noticing_death():
            self._ends[process].send(list(map(int, numbers)))
        self._asked[process] += 1

    def _answer(self, process: int) -> Any:
        with self._noticing_death():
            batch, error, place = self._ends[process].recv()
        self._asked[process] -= 1
        if error is not None:
            raise error from RuntimeError(place)
        return batch

    def _drop_unread(self) -> None:
        for end, asked in zip(self._ends, self._asked, strict=True):
            with self._noticing_death():
                for _ in range(asked):
                    end.recv()
        self._asked = [0] * len(self._ends)

    @contextmanager
    def _noticing_death(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            raise UserError(
                "a process that reads the set has died",
                where=self._where,
                fix="If it ran out of memory, give fewer data.workers, and the same command "
                "again. A script that starts processes needs `if __name__ == '__main__':`.",
            ) from None


def _close(ends: list[Connection]) -> None:
    for end in ends:
        end.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start processes that no signal reaches: the one that they read for decides when to end."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    signals = {getattr(signal, name) for name in names if hasattr(signal, name)}
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(end: Connection, read: Read) -> None:
    """Answer each list of row numbers with their batch, or with an error and its traceback."""
    requests: SimpleQueue[list[int] | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(end, requests), daemon=True).start()
    while (numbers := requests.get()) is not None:
        answer: tuple[Any, Exception | None, str]
        try:
            answer = read(numbers), None, ""
        except Exception as error:
            answer = None, _sendable(error), traceback.format_exc()
        try:
            end.send(answer)
        except OSError:
            return  # nobody reads it any more


def _receive(end: Connection, requests: SimpleQueue[list[int] | None]) -> None:
    """Pass on requests while the process reads, so that whoever sends one never waits for it."""
    try:
        while True:
            requests.put(end.recv())
    except (EOFError, OSError):
        requests.put(None)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
