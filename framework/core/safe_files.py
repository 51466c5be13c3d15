"""Open the files of a run safely, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from framework.errors import UserError


class NotAFile(OSError):
    """Something else has the name of a run's file: a link, a directory, a pipe, a device."""

    def refused(self) -> UserError:
        """Return the error as the message for the user."""
        return UserError(
            f"{self.strerror}: a run opens only regular files and directories",
            where=str(self.filename),
            fix="Move it away, or give another run_dir=.",
        )


def ours(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file of a run; pass this function to `open` as `opener`.

    Otherwise, somebody who can put a link into a run directory could make the framework read,
    overwrite or truncate any of the user's files. A pipe or a device could block the run forever.

    Example:
        >>> with open("runs/a/log.txt", "a", opener=ours) as file:
        ...     file.write("started")

    Raises:
        NotAFile: It is not a regular file, or it is to be written and has a second hard link.
        OSError: It cannot be opened.
    """
    cut = flags & os.O_TRUNC  # truncate only after the file type is known
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    _check_no_link(path)
    handle = os.open(path, (flags & ~os.O_TRUNC) | careful, 0o666)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise _not_a_file(path, about.st_mode)
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes and about.st_nlink > 1:
            raise NotAFile(errno.EMLINK, "It has another name elsewhere (a hard link)", str(path))
        if cut:
            os.ftruncate(handle, 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be written whole or not at all; an existing one is replaced at the end.

    Example:
        >>> with replacing(Path("runs/a/result.json")) as file:
        ...     file.write(b"{}")
    """
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with open(aside, "wb", opener=ours) as file:
            yield file
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a run's file, which may have at most so many bytes.

    Raises:
        OSError: It is larger, is not a file, or cannot be read.
    """
    with open(path, "rb", opener=ours) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"It has more than {most:,} bytes", str(path))
        return file.read(most)


def check_directory(path: Path) -> None:
    """Refuse a run's directory that is a link or not a directory; it may be missing."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise NotAFile(errno.ELOOP, "It is a symbolic link", str(path))
    if not stat.S_ISDIR(mode):
        raise NotAFile(errno.ENOTDIR, "It is not a directory", str(path))


def _check_no_link(path: str | os.PathLike[str]) -> None:
    # O_NOFOLLOW guards against races; this check gives a clear message, and never opens a pipe.
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise _not_a_file(path, mode)


def _not_a_file(path: str | os.PathLike[str], mode: int) -> NotAFile:
    kinds = {
        stat.S_IFLNK: (errno.ELOOP, "a symbolic link"),
        stat.S_IFDIR: (errno.EISDIR, "a directory"),
        stat.S_IFIFO: (errno.EINVAL, "a pipe"),
        stat.S_IFCHR: (errno.EINVAL, "a device"),
        stat.S_IFBLK: (errno.EINVAL, "a device"),
        stat.S_IFSOCK: (errno.EINVAL, "a socket"),
    }
    number, kind = kinds.get(stat.S_IFMT(mode), (errno.EINVAL, "something else"))
    return NotAFile(number, f"It is {kind}, not a file", str(path))
