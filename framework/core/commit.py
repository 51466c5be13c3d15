"""The commit of the code that a run was started with."""

from __future__ import annotations

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def commit_of(directory: Path) -> str | None:
    """Return the git commit that is checked out in a directory or above it, if there is one.

    It reads git's files, so it needs no git and starts no process.

    Example:
        >>> commit_of(Path.cwd())
        '5d3f0c6a…'
    """
    try:
        for place in (directory, *directory.parents):
            found = place / ".git"
            if found.exists():
                return _head(found)
    except (OSError, UnicodeDecodeError):
        return None
    return None


def _head(git: Path) -> str | None:
    if git.is_file():  # a worktree: `gitdir: <path>`
        git = git.parent / git.read_text().partition(":")[2].strip()
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head if _COMMIT.fullmatch(head) else None
    name = head.removeprefix("ref: ")
    common = git / "commondir"
    places = [git, git / common.read_text().strip()] if common.exists() else [git]
    for place in places:
        if (place / name).is_file():
            commit = (place / name).read_text().strip()
            return commit if _COMMIT.fullmatch(commit) else None
        packed = place / "packed-refs"
        for line in packed.read_text().splitlines() if packed.exists() else ():
            commit, _, ref = line.partition(" ")
            if ref == name and _COMMIT.fullmatch(commit):
                return commit
    return None
