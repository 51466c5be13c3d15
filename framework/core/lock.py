"""Lock a run directory, so that only one process writes to it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from framework.core.safe_files import ours
from framework.errors import UserError

LOCK = ".lock"
_TRIES, _PAUSE = 5, 0.02  # seconds; longer than `is_locked` holds a lock
_HELD: set[int] = set()  # the open files of this process's locks


def _forget_all() -> None:
    # Closing is enough; in a fork, it does not release the parent's lock.
    while _HELD:
        os.close(_HELD.pop())


# Once for all locks: what is registered is never let go, and a notebook locks many times.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def locked(handle: int, *, shared: bool = False) -> bool:
    """Lock an open file until this process closes it; return False if another one has locked it.

    Several processes can have a `shared` lock at a time.

    Where there are no locks, as on Windows and some file systems, nothing stops anybody.
    """
    for last in range(_TRIES - 1, -1, -1):
        if _flocked(handle, "LOCK_SH" if shared else "LOCK_EX"):
            return True
        if last:
            time.sleep(_PAUSE)
    return False


def is_locked(path: Path) -> bool:
    """Return whether a process has locked a file; one that is missing is not locked.

    Asking takes a shared lock for a moment, which others that ask do not notice, and which
    `locked` waits for.
    """
    try:
        handle = ours(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _flocked(handle, "LOCK_SH")
    finally:
        os.close(handle)


def _flocked(handle: int, kind: str) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, getattr(fcntl, kind) | fcntl.LOCK_NB)
    except OSError as error:  # any other comes from a file system without locks
        return not isinstance(error, BlockingIOError)
    return True


class RunLock:
    """Lock a run directory for this process while the body runs.

    The operating system holds the lock and releases it when the process ends, however it ends.
    Forked child processes do not inherit it.

    Example:
        >>> with RunLock(Path("runs/a")):
        ...     train()

    Raises:
        UserError: Another process holds the lock, or the directory cannot be written to.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LOCK
        self._handle: int | None = None

    def __enter__(self) -> None:
        try:
            handle = ours(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise UserError(
                f"cannot write there: {error.strerror}",
                where=str(error.filename or self._path),
                fix="Move the existing file away, make it writable, or give another run_dir=.",
            ) from error
        if not locked(handle):
            owner = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(
                f"another process{f' ({owner})' if owner else ''} is writing to this run",
                where=str(self._path.parent),
                fix="Wait for it to end, or give another run_dir=.",
            )
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()}\n".encode())
        self._handle = handle
        _HELD.add(handle)

    def __exit__(self, *_: object) -> None:
        if self._handle in _HELD:  # a fork has closed it
            _HELD.discard(self._handle)
            os.close(self._handle)
