"""Paths as users write them: local, with `~` for a home directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from framework.errors import UserError

# `Path` collapses the two slashes of an address into one.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|.*://", re.DOTALL)
_LONGEST_NAME, _LONGEST = 255, 4095


def local_path(given: str | os.PathLike[str], where: str) -> Path:
    """Return the path that a user wrote; every option with a path goes through this function.

    Example:
        >>> local_path("~/runs/a", "run_dir")
        PosixPath('/home/me/runs/a')

    Args:
        given: The path as written.
        where: The option, for messages.

    Returns:
        The path, with `~` and `~user` expanded.

    Raises:
        UserError: It is an address such as `s3://bucket/run`, names an unknown user, or is longer
            than file systems allow; or it is relative and the working directory no longer exists.
    """
    text = os.fsdecode(given)
    if _ADDRESS.match(text):
        raise UserError(
            f"{text!r} is not a path on this machine",
            where=where,
            fix="Give a directory that is mounted here, and copy its files from or to the other "
            "place before or after the run.",
        )
    if "\0" in text:
        raise UserError(
            f"{text!r} contains a null byte", where=where, fix="Give a path without it."
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        name = Path(text).parts[0]
        raise UserError(
            f"{text!r}: there is no home directory {name}",
            where=where,
            fix=f"Write the full path, or ./{name} for a directory with this name.",
        ) from None
    _check_length(path, where)
    if not path.is_absolute():
        working_directory()
    return path


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        UserError: It was deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UserError(
            "the working directory was deleted",
            where="the shell that this was started in",
            fix="Change into one that exists: cd <directory>.",
        ) from None


def _check_length(path: Path, where: str) -> None:
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        what = f"{len(os.fsencode(longest))} bytes in the name {longest[:20]!r}..."
        limit = f"names of at most {_LONGEST_NAME} bytes"
    elif len(os.fsencode(path)) > _LONGEST:
        what = f"a path of {len(os.fsencode(path))} bytes"
        limit = f"a path of at most {_LONGEST}"
    else:
        return
    raise UserError(f"{what} is more than a file system allows", where=where, fix=f"Give {limit}.")
